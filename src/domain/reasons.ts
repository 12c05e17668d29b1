/**
 * Every reason that Keyturn gives, wherever it gives one: faults, verdicts, waits, events, metric
 * labels, notifications. `next` says what the engine does, `help` what a person can do. Names are
 * public: one is added, never renamed.
 *
 * - `retry`: ask again, with backoff; the outside system is expected to recover.
 * - `wait`: nothing is wrong; it takes time, or another has to act first.
 * - `stop`: asking again will not help; a person must act. It is still looked at, slowly.
 */
export const reasons = {
  // outside systems
  Unreachable: { next: 'retry', help: 'The named system did not answer. Nothing is lost; it goes on when the system does.' },
  ServerError: { next: 'retry', help: 'The named system answered with an error of its own. Look at its logs.' },
  TooSlow: { next: 'retry', help: 'The named system answered, but not to the end in the time that it was given. It is asked again.' },
  RedirectRefused: {
    next: 'stop',
    help: 'The named system sent us to another host, or round in circles: not followed, since that host would be shown our credentials. Find out why, or configure its new address.',
  },
  Throttled: { next: 'retry', help: 'The named system asks for fewer calls. It goes on by itself.' },
  Conflict: { next: 'retry', help: 'Somebody else changed the object at the same moment. It is read again and tried again.' },
  PermissionDenied: { next: 'stop', help: 'Grant what the README of that adapter lists.' },
  Unauthenticated: { next: 'stop', help: 'The credentials were refused. Check the secret that the configuration names, and its expiry.' },
  CertificateRejected: {
    next: 'stop',
    help: 'The named system’s TLS certificate has expired, is for another name, or is not of the configured authority. Renew it, or correct the CA.',
  },
  UnexpectedAnswer: { next: 'stop', help: 'The answer is not one that this version knows. Compare the versions in the README of that adapter.' },
  NotFound: { next: 'stop', help: 'The named thing is not there. Create it, or correct the document that names it.' },
  NotConfigured: { next: 'stop', help: 'A document names something that keyturn.yaml does not have. Add it there, or correct the document.' },
  InvalidRequest: { next: 'stop', help: 'The named system refuses the request as malformed. Compare the document with the system’s own rules.' },
  LimitExceeded: { next: 'stop', help: 'A limit was passed. The message names it; make the thing smaller, or raise the limit where it is configured.' },

  // documents and trust
  Malformed: {
    next: 'stop',
    help: 'Correct the named field (`keyturn schema` prints what is expected), and commit it as a new document: a file never changes once it was seen.',
  },
  UnknownField: {
    next: 'stop',
    help: 'Remove the named field, or correct its spelling, and commit it as a new document: a file never changes once it was seen.',
  },
  WrongPlace: { next: 'stop', help: 'The file’s name and the ids inside must agree. Commit it under another name: a file never changes once it was seen.' },
  NotPlainFile: {
    next: 'stop',
    help: 'Only plain files in plain folders are read: no links, no submodules, no executables. Commit the content itself, with mode 100644.',
  },
  ObjectMalformed: {
    next: 'stop',
    help: 'Git does not write such a commit or folder: somebody made it by hand. Find out who pushed it, and commit without it.',
  },
  SignaturesMissing: { next: 'wait', help: 'Have more approvers sign these exact bytes: `keyturn sign FILE`, then commit the bundle beside it.' },
  SignatureInvalid: { next: 'stop', help: 'The bundle does not verify over the file’s exact bytes. Sign the file again as it is committed.' },
  SignerUnknown: { next: 'stop', help: 'The signing key or identity belongs to nobody in the trust document. Sign with one that it lists, letter for letter.' },
  SignerNotEntitled: { next: 'stop', help: 'That person holds no role for this document. Have somebody sign whom the trust document names for it.' },
  SignedTwiceByOne: { next: 'wait', help: 'Thresholds count people, not keys or bundles. Another person has to sign.' },
  BundleUnsupported: { next: 'stop', help: 'Sign with `cosign sign-blob --new-bundle-format --bundle`, or with `keyturn sign`.' },
  StatementUnfit: {
    next: 'stop',
    help: 'A DSSE bundle has to hold one signature over one in-toto statement, of predicate type https://keyturn.dev/approval/v1, about this file alone. The message names the field.',
  },
  CertificateUnfit: {
    next: 'stop',
    help: 'A signing certificate has to be for code signing and name one issuer and one subject. Sign again with a certificate of the trusted root’s authority.',
  },
  CertificateUntrusted: {
    next: 'stop',
    help: 'The signing certificate, or its place in the certificate log, is not of the trust document’s trusted root. Sign with the services that it names.',
  },
  CertificateExpired: {
    next: 'stop',
    help: 'The signature was logged or time-stamped outside the certificate’s life, which is minutes. Sign again, in one go.',
  },
  LogEntryMissing: {
    next: 'stop',
    help: 'The trusted root names a transparency log, and the bundle has no entry of it. Sign again, and let the log take it in.',
  },
  LogEntryInvalid: {
    next: 'stop',
    help: 'The log entry is not of a log that the trusted root names, or not of this signature. Sign again with the services that it names.',
  },
  TimestampMissing: {
    next: 'stop',
    help: 'Nothing proves when the certificate was used. Sign again with a log or a timestamp service that the trusted root names.',
  },
  TimestampInvalid: {
    next: 'stop',
    help: 'The timestamp is not of a service that the trusted root names, or not of this signature. Sign again with one that it names.',
  },
  TrustedRootMissing: {
    next: 'stop',
    help: 'Identities count only where the trust document names a trusted root. Sign with a key, or commit a next version that names one.',
  },
  KeyUnsupported: { next: 'stop', help: 'Keys must be ECDSA on P-256 or P-384; Ed25519 is refused by the verifier in use.' },
  TrustMissing: {
    next: 'stop',
    help: 'No trust document with the digest that `trust.initialDigest` pins is there, or none leads to one that was accepted: name the digest pinned before in `trust.formerDigests`.',
  },
  TrustExpired: { next: 'stop', help: 'The trust document has expired: releases are held, revocations still count. Commit the next version.' },
  TrustOutOfTurn: {
    next: 'wait',
    help: 'Versions of the trust document follow each other one by one. The message says which is in force; earlier ones are done, later ones wait for theirs.',
  },
  TrustDowngraded: {
    next: 'stop',
    help: 'A newer trust document was in force than those that `trust.initialDigest` leads to: nothing counts. Pin that one again where it was you who pinned it; otherwise find out who wrote to the database.',
  },
  SerialReplayed: { next: 'stop', help: 'A serial is used once. Give the release the next serial and sign it again.' },
  PreviousWrong: { next: 'stop', help: '`previous` must be the digest of the last accepted release of this workload, or null for its first.' },
  Expired: { next: 'stop', help: 'The release was not accepted before its `expires`. Approve it again with a new serial.' },
  DocumentChanged: { next: 'stop', help: 'A document never changes once it was seen. Put the old bytes back, and commit a new document.' },
  FileMissing: { next: 'wait', help: 'A file that the document names by digest is not in the repository with those bytes. Commit it.' },
  HistoryRewritten: { next: 'stop', help: 'The branch no longer descends from the last accepted commit. Restore it; a signed trust document can accept it.' },
  SealingRetired: { next: 'stop', help: 'That ciphertext’s key has been retired. Release the weights from plaintext instead.' },
  NothingToFallBackTo: { next: 'stop', help: 'A withdrawal needs a release left to fall back to. Approve a newer release, or revoke.' },
  AlreadyRetired: { next: 'stop', help: 'The release was retired: nothing of it runs, and it never returns. There is nothing to withdraw; check the digest.' },
  NotASuspension: {
    next: 'stop',
    help: 'Only a revocation with reason certificateHold can be lifted. What any other reason took is succeeded: approve a release under a new key.',
  },
  AlreadyReinstated: { next: 'stop', help: 'A revocation is lifted once. Another one of the same thing has its own id: name that one.' },
  ObjectTaken: { next: 'stop', help: 'Another workload’s release moves the same object. Leave the object to one of them.' },
  NotSupportedYet: { next: 'stop', help: 'The document asks for something that this version cannot do yet. The message names the field.' },
  Tampered: { next: 'stop', help: 'A stored row does not carry our signature. Restore the database, and find out who wrote to it.' },
  DeliveryUnsigned: {
    next: 'stop',
    help: 'A webhook delivery without an HMAC-SHA-256 signature is not looked at. Set the same secret at the Git host; the branch is polled anyway.',
  },
  DeliveryForged: {
    next: 'stop',
    help: 'A webhook delivery was signed with another secret. Compare the one at the Git host with `repository.webhook.secret`, or find out who sends it; the branch is polled anyway.',
  },
  DeliveryReplayed: {
    next: 'wait',
    help: 'A webhook delivery came again, byte for byte. It changes nothing; where you did not redeliver it, find out who did.',
  },
  UnsignedRevocation: { next: 'stop', help: 'A revocation without a valid signature changes nothing. Have a revoker sign it: `keyturn sign FILE`.' },

  // vendor collateral
  CollateralMalformed: {
    next: 'retry',
    help: 'The bytes are not what they seem to be: cut short, changed on the way, or of a newer form. Fetch the item again.',
  },
  CollateralKindUnknown: {
    next: 'stop',
    help: 'The file is no kind of collateral that this version knows. Leave it out, or look at what the service answered.',
  },
  CollateralTampered: {
    next: 'stop',
    help: 'The signature is not over these bytes. Use nothing of it, fetch the item again from the vendor, and find out where it was changed.',
  },
  CollateralUnsigned: { next: 'stop', help: 'Nobody has signed it, so it proves nothing. Use the signed form that the vendor serves.' },
  CollateralMismatch: { next: 'stop', help: 'Parts that do not belong together. Fetch them again as one set, for what was asked for.' },
  CollateralExpired: { next: 'retry', help: 'Its dates are past: it proves nothing any more. Fetch it anew.' },
  CollateralNotYetValid: { next: 'retry', help: 'It starts later than the moment it is judged at. Compare the clocks; otherwise find out who made it.' },
  SignerExpired: {
    next: 'retry',
    help: 'The certificate of who signed it has expired. Fetch it anew with its chain; where the vendor serves no other, ask the vendor.',
  },
  SignerRevoked: { next: 'stop', help: 'The vendor has revoked a certificate of its chain. Use nothing of it; take what it stands for out of service.' },
  SignerMissing: { next: 'stop', help: 'The certificate or key of who signed it was not given. Give it in the same call.' },
  SignerWrong: { next: 'stop', help: 'A genuine certificate, but not of whom signs this kind. Compare the chain that came with the item.' },
  SignerNotAuthority: { next: 'stop', help: 'A certificate of its chain may not sign others. Nobody genuine makes such a chain: find out where it came from.' },
  RootNotPinned: {
    next: 'stop',
    help: 'Its chain ends at another root than the vendor’s: test material, or a forgery. For attestation results name your own CA with --token-ca.',
  },
  ChainIncomplete: { next: 'stop', help: 'A certificate between it and the vendor’s root was not given. Give the whole chain.' },
  AlgorithmRefused: { next: 'stop', help: 'It is signed in a way that no vendor signs, or not at all. Do not use it.' },
  CollateralRolledBack: {
    next: 'stop',
    help: 'The source offers an older state than the one in use, and signs for it. The one in use stays; find out why, and who stands between.',
  },
  CollateralLossy: {
    next: 'stop',
    help: 'Trustee’s file backend would write the document otherwise than it was signed. Ask for the FMSPC in upper case, or serve this item over HTTP.',
  },
  TcbStatusUnknown: {
    next: 'stop',
    help: 'It names a TCB status that this version and Trustee do not know. Publish nothing of it before both were brought to a newer version.',
  },

  // the run
  Superseded: { next: 'wait', help: 'Another release is the workload’s target. This one is retired when that one serves.' },
  OnHold: { next: 'wait', help: 'Somebody stopped it with `keyturn hold`. The message says who and why; `keyturn resume` lets it go on.' },
  Held: { next: 'wait', help: 'Nothing good is left to run. Approve a release.' },
  ReferenceValueRevoked: {
    next: 'stop',
    help: 'The document lists a reference value that a revocation names: nobody is good by it any more. Approve one that does not list it.',
  },
  Revoked: { next: 'stop', help: 'A committed revocation forbids it. Approve a successor, or a reinstatement.' },
  Fenced: { next: 'retry', help: 'Another replica has taken the run over. Nothing to do.' },
  TargetNotServing: { next: 'wait', help: 'Nothing old is taken away before the target serves. See what the target’s own run waits for.' },
  DeadlinePassed: { next: 'stop', help: 'The rotation did not finish in time. Both keys stay valid; find out what it waits for, or withdraw the release.' },
  LateWritesPossible: { next: 'wait', help: 'An earlier write to the KBS may still land. It goes on when none can: token life + leeway + bounds.' },
  BaselineMissing: { next: 'stop', help: 'Commit a signed baseline with `takeover: true` for this KBS; without it nothing is written there.' },
  ForeignReferenceValue: { next: 'stop', help: 'The KBS holds a value that no release and no baseline names. List it in the baseline, or remove it.' },
  ReferenceValueMissing: { next: 'wait', help: 'The KBS does not show the reference value yet. It is sent again.' },
  PolicyOverwritten: { next: 'retry', help: 'Somebody else installed another policy in this KBS. It is published again; find out who writes there.' },
  PolicyNotInstalled: { next: 'retry', help: 'The KBS does not run the published policy yet. It is sent again.' },
  ResourceUnanswered: { next: 'retry', help: 'The KBS has not acknowledged the key’s bytes. They are sent again.' },
  KeyMissing: { next: 'retry', help: 'The key store does not list the key yet.' },
  KeyDisabled: { next: 'stop', help: 'The key is disabled at its store, though its revision is in service. Enable it, or approve a successor.' },
  KeyStillEnabled: { next: 'retry', help: 'The key store still decrypts with the old key. It is disabled again.' },
  KeyRefusalProving: { next: 'wait', help: 'The key is refused; it has to be refused for `disabledProofSeconds` without a break.' },
  KeyWriteUnanswered: {
    next: 'stop',
    help: 'The key was told to be disabled, or enabled, and the answer never came: it may still take effect, and nothing says when it no longer can. A successor under a new key does not wait for it.',
  },
  KeyInUse: { next: 'wait', help: 'Something still uses the retired key, or it was enabled again: it is not destroyed. The message names it.' },
  CiphertextStillThere: { next: 'retry', help: 'The store still holds the ciphertext of the retired key. It is deleted again.' },
  DestructionNotScheduled: { next: 'retry', help: 'The key store does not show the destruction as scheduled. It is asked again.' },
  DestructionPending: {
    next: 'wait',
    help: 'The key is destroyed when the store’s waiting time is over. Until then its operator can call it back (AWS: CancelKeyDeletion); it then stays disabled.',
  },
  DestructionCalledBack: {
    next: 'wait',
    help: 'The key’s destruction was scheduled and is not pending any more: somebody called it back. Seen so for five minutes, the key is left to them, disabled.',
  },
  TargetSharesCiphertext: { next: 'wait', help: 'The target has no ciphertext of its own: the old key stays until it does.' },
  CiphertextMissing: { next: 'retry', help: 'The encrypted weights are not whole in every store yet.' },
  WeightsChanged: { next: 'stop', help: 'The plaintext does not match the approved manifest. Restore it, or approve a release with its digest.' },
  UnfitForCodec: {
    next: 'stop',
    help: 'The release’s codec cannot carry a file of the weights; the message names it and says why. Cut it, leave it out, or approve a release with another codec.',
  },
  CiphertextTorn: {
    next: 'stop',
    help: 'No store has the named file of the older ciphertext whole. Restore it in one of them, or release the weights from plaintext.',
  },
  DiskFailing: {
    next: 'retry',
    help: 'The named file cannot be read or written: its disk or mount answers with I/O errors. See the kernel’s log on that host.',
  },
  ChecksumMismatch: {
    next: 'retry',
    help: 'The named store has other bytes than it was sent, or says so. They are sent again; where it lasts, look at the network and at the store.',
  },
  DiskFull: { next: 'retry', help: 'Make room in the named store; what was written is used again.' },

  // pods
  ImageNotBound: { next: 'stop', help: 'Init-data must carry an inline image policy that admits exactly the release’s images by digest.' },
  PreflightFailed: { next: 'stop', help: 'The message names the setting of the workload that the release cannot be rolled with. Correct it.' },
  FieldOwnedByOther: { next: 'stop', help: 'Another manager applies a field that the release sets. Remove it from that manager’s manifest.' },
  WindowClosed: { next: 'wait', help: 'Pods of that cluster are moved only in its `windows` (keyturn.yaml). It goes on when the next one opens.' },
  PlatformInUse: { next: 'wait', help: 'A guest was last attested on a value that the platform’s newest document no longer lists. It is let go when none is.' },
  ClaimUnknown: {
    next: 'stop',
    help: 'No claim of a token tells who rests on that value. It is let go when no release in service names the platform: move them to one of another id.',
  },
  TemplateOutdated: { next: 'retry', help: 'The workload’s template does not name the new key yet. It is patched.' },
  PodsMissing: { next: 'wait', help: 'Fewer pods run than `minimumAttested`. See the workload’s own events.' },
  PodsNotMoved: { next: 'wait', help: 'Pods still run the old template. See the workload’s roll-out.' },
  PodNotReady: { next: 'wait', help: 'The named pod does not serve yet. See its events and its start-up log.' },
  PodNotAttested: { next: 'wait', help: 'The named pod has not fetched the new key with a good attestation. See the proxy’s last decision for its address.' },
  FirstPodsNotAttested: {
    next: 'wait',
    help: 'What was reinstated is held at its first pods: none has fetched the key at its new path with a good attestation. See their events and the proxy’s last decision for their addresses.',
  },
  AttestationInvalid: { next: 'stop', help: 'The attestation result does not verify. Compare `attestationSigners` with the attestation service’s signer.' },
  MeasurementMismatch: { next: 'stop', help: 'The guest is not the approved one. Correct the guest, or approve its measurement in a release.' },
  Soaking: { next: 'wait', help: 'The pods serve; they are looked at again when `soakSeconds` is over.' },
  KeepingPrevious: { next: 'wait', help: 'The previous release is kept for `keepPreviousSeconds`, so that a withdrawal falls back at once.' },
  OldRevisionInUse: { next: 'wait', help: 'A pod still has the old revision’s spec. It is retired when none has.' },
  OldKeyFetched: { next: 'wait', help: 'Somebody still fetches the old key. The message names the address; move it to the new release.' },
  OldPathServed: { next: 'retry', help: 'The old path is not refused everywhere yet.' },
  ProxyNotCaughtUp: { next: 'wait', help: 'A proxy has not acknowledged the refusal yet. It refuses everything once its `denyListStaleSeconds` are over.' },
  PodsNotEvicted: {
    next: 'retry',
    help: 'Pods that hold what was revoked are still there. Their disruption budget and grace period are respected; look at the budget where it lasts.',
  },
  DeleteUnanswered: { next: 'retry', help: 'The KBS has not acknowledged the deletion. It is sent again.' },
} as const satisfies Record<string, { next: 'retry' | 'wait' | 'stop'; help: string }>;

/** One of the names above. */
export type Reason = keyof typeof reasons;
