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
  'revoke/refuse-at-proxies': 'Every proxy refuses it.',
  'revoke/publish-policy': 'The key brokers’ own policy refuses it, asked for and seen.',
  'revoke/delete-resources': 'The key’s bytes are gone from the brokers.',
  'revoke/publish-reference-values': 'What measurements are compared with was read back without it.',
  'revoke/touch-objects': 'A patch to it that is still on its way lands nowhere.',
  'revoke/confirm-refused': 'Asked once more, at brokers and proxies: refused.',
  'revoke/find-holders': 'Who may still hold it is known, and nobody joins them.',
  'revoke/evict-pods': 'No pod that held it is left, where that was asked for.',
  'revoke/disable-keys': 'The key store no longer decrypts with its key, unless others need it.',
  'reinstate/enable-keys': 'The keys of what comes back decrypt again.',
  'reinstate/lift-revocation': 'What comes back has its next path, and may run again.',
  'reinstate/lift-at-proxies': 'Every proxy lets its guests and devices in again.',
  'reinstate/publish-policy': 'The brokers grant it again, asked for and seen.',
  'reinstate/publish-reference-values': 'Its measurements are good again, read back.',
  'reinstate/delete-former-resources': 'The old path is empty, and stays refused for ever.',
  'destroy-key/delete-ciphertext': 'The ciphertext of the retired key is gone from every store.',
  'destroy-key/schedule-destruction': 'The key store will destroy the key when its waiting time is over.',
  'destroy-key/confirm-destroyed': 'The key store has no such key any more, or somebody called it back.',
};

/** Moments of a revocation that have no receipt, and the receipt of its lifting. */
const MOMENTS: Readonly<Record<string, string>> = {
  hinted: 'A webhook said that something is new.',
  seen: 'Its document was seen.',
  'signature-hinted': 'A webhook said that something is new.',
  signed: 'The signature that it lacked was seen.',
  accepted: 'It was accepted: from here on nothing grants it any more.',
  'lifting-accepted': 'A reinstatement was accepted; it stays refused until that is carried out.',
  reinstated: 'It was lifted: what was left to do is not done any more.',
};

/** What happened at a moment of a revocation: an event's name, or that of a step which belongs to no workflow; null where there are no words for it. */
export function momentOf(event: string): string | null {
  return Object.hasOwn(MOMENTS, event) ? (MOMENTS[event] ?? null) : null;
}

/** The sentence; null for a step that has none. */
export function sentenceOf(workflow: string, step: string): string | null {
  const name = `${workflow}/${step}`;
  return Object.hasOwn(SENTENCES, name) ? (SENTENCES[name] ?? null) : null;
}
