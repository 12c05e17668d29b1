/** What a step brings about, for whoever sees its name for the first time: by `<workflow>/<step>`. */
const SENTENCES: Readonly<Record<string, string>> = {
  'adopt-revision/create-key': 'A key of its own, in the key store.',
  'adopt-revision/make-resource': 'The bytes that guests will fetch, made once and kept wrapped.',
  'adopt-revision/encrypt-weights': 'The weights sealed under that key, in new objects.',
  'adopt-revision/go-live': 'From here on the key brokers are told.',
  'adopt-revision/publish-reference-values': 'The new measurements, at every key broker.',
  'adopt-revision/put-resource': 'The key’s bytes, at a path of their own.',
  'adopt-revision/publish-policy': 'Who may fetch them, asked for and seen.',
  'adopt-revision/confirm-published': 'All three are there, and nothing older can land on them.',
  'adopt-revision/patch-template': 'The workload’s template names the new key.',
  'adopt-revision/try-first-pods': 'What came back from a revocation proves itself on its first pods.',
  'adopt-revision/move-pods': 'Every pod attested, fetched the new key, and serves.',
  'adopt-revision/confirm-serving': 'The soak is over, and a fresh look says the same.',
  'retire-revision/close': 'The target serves; this one is on its way out.',
  'retire-revision/retire': 'No pod has its spec and nobody fetches its key: no way back from here.',
  'retire-revision/publish-policy': 'Its path is granted to nobody any more.',
  'retire-revision/publish-reference-values': 'Its measurements are good for nobody any more.',
  'retire-revision/refuse-old-path': 'Asked for its key, the broker and the proxy both say no.',
  'retire-revision/delete-resource': 'The key’s bytes are gone from the broker.',
  'retire-revision/disable-key': 'The key store no longer decrypts with its key.',
  'destroy-key/delete-ciphertext': 'The ciphertext of the retired key is gone from every store.',
  'destroy-key/schedule-destruction': 'The key store will destroy the key when its waiting time is over.',
  'destroy-key/confirm-destroyed': 'The key store has no such key any more, or somebody called it back.',
};

/** The sentence; null for a step that has none. */
export function sentenceOf(workflow: string, step: string): string | null {
  return SENTENCES[`${workflow}/${step}`] ?? null;
}
