import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';

/** A JSON file that one process writes: what was saved last is what is there, whole, after any crash. */
export interface KeptFile {
  /** The text that an earlier process saved; null: none has. */
  readonly text: string | null;
  /** Replaces it with what `textOf` says when its turn comes: one save after the other. */
  readonly save: (textOf: () => string) => Promise<void>;
}

/** Opens it in a folder that is made where it is missing, readable by its owner alone; folder null: nothing is kept. */
export async function openKeptFile(folder: string | null, name: string): Promise<KeptFile> {
  if (folder === null) return { text: null, save: async () => undefined };
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const text = await readFile(join(folder, name), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  let saving: Promise<void> = Promise.resolve();
  return {
    text,
    save: (textOf) => {
      saving = saving.then(() => replace(join(folder, name), textOf()));
      return saving;
    },
  };
}

async function replace(file: string, text: string): Promise<void> {
  const part = `${file}.part`;
  const handle = await open(part, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(part, file);
}
