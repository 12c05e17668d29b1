import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Json } from './kbs-wire.ts';

/** A guest's session: opened by `auth`, attested by `attest`, over at `endsAt` whatever happens. Milliseconds since 1970. */
export interface LabSession {
  readonly tee: string;
  readonly nonce: string;
  readonly endsAt: number;
  /** The EAR; null until it attested. */
  readonly token: string | null;
}

/** All that a KBS remembers. */
export interface LabStore {
  readonly policy: { text: string };
  readonly resources: Map<string, Buffer>;
  readonly referenceValues: Map<string, Json>;
  readonly sessions: Map<string, LabSession>;
  /** Called after every change: with a folder it is then on disk, whole or not at all. */
  readonly save: () => void;
  /** What a new start finds: in a folder what was saved, without one nothing. */
  readonly reload: () => void;
  /** Loses everything, in the folder too. */
  readonly wipe: () => void;
}

interface Saved {
  readonly policy: string;
  readonly resources: Readonly<Record<string, string>>;
  readonly referenceValues: Readonly<Record<string, Json>>;
  readonly sessions: Readonly<Record<string, LabSession>>;
}

/**
 * Opens the memory of a lab KBS. `folder` null: Trustee's `Memory` storage, gone at a restart. With one:
 * a single file that is replaced whole, so that a restart finds policy, resources, reference values and
 * open sessions, as Trustee's persistent storages do.
 */
export function openStore(folder: string | null, defaultPolicy: string): LabStore {
  const file = folder === null ? null : join(folder, 'kbs.json');
  if (folder !== null) mkdirSync(folder, { recursive: true });
  const policy = { text: defaultPolicy };
  const resources = new Map<string, Buffer>();
  const referenceValues = new Map<string, Json>();
  const sessions = new Map<string, LabSession>();

  function save(): void {
    if (file === null) return;
    const saved: Saved = {
      policy: policy.text,
      resources: Object.fromEntries([...resources].map(([path, bytes]) => [path, bytes.toString('base64')])),
      referenceValues: Object.fromEntries(referenceValues),
      sessions: Object.fromEntries(sessions),
    };
    writeFileSync(`${file}.new`, JSON.stringify(saved));
    renameSync(`${file}.new`, file);
  }

  function fill(saved: Saved | null): void {
    for (const map of [resources, referenceValues, sessions]) map.clear();
    policy.text = saved?.policy ?? defaultPolicy;
    for (const [path, bytes] of Object.entries(saved?.resources ?? {})) resources.set(path, Buffer.from(bytes, 'base64'));
    for (const [name, value] of Object.entries(saved?.referenceValues ?? {})) referenceValues.set(name, value);
    for (const [id, session] of Object.entries(saved?.sessions ?? {})) sessions.set(id, session);
  }

  function wipe(): void {
    fill(null);
    save();
  }

  const store = { policy, resources, referenceValues, sessions, save, wipe, reload: () => fill(savedIn(file)) };
  store.reload();
  return store;
}

function savedIn(file: string | null): Saved | null {
  if (file === null) return null;
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Saved;
  } catch {
    return null;
  }
}
