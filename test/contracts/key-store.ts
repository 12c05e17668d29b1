import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Answer } from '#src/domain/kbs.ts';
import { isFault } from '#src/errors.ts';
import { Secret } from '#src/secret.ts';
import type { KeyOrder, KeyStore, Read } from '#src/world.ts';

/** A key store with nothing in it, and the hands that a test needs beside the port. */
export interface KeyStoreUnderTest {
  readonly store: KeyStore;
  /** The same keys, as another installation sees them; null where there cannot be one. */
  readonly elsewhere: KeyStore | null;
  /** Lets time pass until listings and states that lag have caught up. */
  readonly settle: () => Promise<void>;
  /** The next write arrives, and its answer does not. */
  readonly loseNextAnswer: () => void;
  /** Lets days pass on the store's clock. */
  readonly passDays: (days: number) => Promise<void>;
  /** The days from the scheduling of a destruction to the key's end. */
  readonly destructionWindowDays: number;
  /** What an operator of the store does to a key that is pending destruction. */
  readonly callBack: (keyId: string) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** Leave to send, and what was reported through it. */
export interface Journal {
  readonly read: Read<KeyOrder>;
  readonly answers: readonly Answer[];
}

/** Leave to send this order once; it remembers the answer. */
export function permit(rotation: string, keyId: string | null = null): Journal {
  const answers: Answer[] = [];
  return { answers, read: async () => ({ value: { rotation, keyId }, answered: async (answer) => void answers.push(answer) }) };
}

/** No leave: fenced, or no longer wanted. */
export const fenced: Read<KeyOrder> = async () => null;

/** The reason of the Fault that an attempt ends with; 'done' where it ends well; anything else thrown is passed on. */
export async function reasonOf(attempt: Promise<unknown>): Promise<string> {
  try {
    await attempt;
    return 'done';
  } catch (error) {
    if (isFault(error)) return error.reason;
    throw error;
  }
}

const ROTATION = 'r-0123456789abcdef';
const CONTEXT = { installation: 'test', rotation: ROTATION, path: 'keyturn/w-1/s1-v1-0-01234567', release: 'sha256:00' };

/** Makes a key, and says its id. Throws where the answer does not name one. */
export async function makeKey({ store, settle }: KeyStoreUnderTest, rotation: string = ROTATION): Promise<string> {
  const { read, answers } = permit(rotation);
  await store.create(read);
  await settle();
  const keyId = answers[0]?.detail.keyId;
  if (keyId === undefined) throw new Error('the answer to create names no key');
  return keyId;
}

/** The claims that every implementer of the KeyStore port is held to. `open` is called anew for each. */
export function keyStoreContract(name: string, open: () => Promise<KeyStoreUnderTest>): void {
  describe(`${name} keeps the KeyStore contract`, () => {
    let under: KeyStoreUnderTest;
    beforeEach(async () => {
      under = await open();
    });
    afterEach(() => under.close());

    findingAndMaking(() => under);
    cryptography(() => under);
    disabling(() => under);
    destroying(() => under);
    sendingOnce(() => under);
  });
}

function findingAndMaking(under: () => KeyStoreUnderTest): void {
  it('finds a key that it made by its rotation, active, under the id that the answer named', async () => {
    const keyId = await makeKey(under());
    expect(await under().store.find(ROTATION)).toMatchObject([{ keyId, state: 'active' }]);
    expect(await under().store.describe(keyId)).toMatchObject({ keyId, state: 'active' });
  });

  it('finds no key of another rotation', async () => {
    await makeKey(under(), 'r-ffffffffffffffff');
    expect(await under().store.find(ROTATION)).toEqual([]);
  });

  it('finds no key of another installation', async () => {
    await makeKey(under());
    expect((await under().elsewhere?.find(ROTATION)) ?? []).toEqual([]);
  });

  it('says null for a key that is not there', async () => {
    const { store } = under();
    const keyId = await makeKey(under());
    expect(await store.describe(keyId.replace(/[0-9a-f]{4}$/, (end) => (end === '0000' ? '0001' : '0000')))).toBeNull();
  });
}

function cryptography(under: () => KeyStoreUnderTest): void {
  it('opens what it sealed, under the same context alone', async () => {
    const { store } = under();
    const keyId = await makeKey(under());
    const bytes = randomBytes(123);
    using plaintext = new Secret(Buffer.from(bytes));
    const sealed = await store.encrypt(keyId, plaintext, CONTEXT);
    expect(sealed.includes(bytes.subarray(0, 16))).toBe(false);
    const opened = await store.decrypt(keyId, sealed, Object.fromEntries(Object.entries(CONTEXT).reverse()));
    expect(opened.kind === 'opened' && opened.plaintext.reveal().equals(bytes)).toBe(true);
    expect(await reasonOf(store.decrypt(keyId, sealed, { ...CONTEXT, path: 'keyturn/w-1/s2-v1-0-01234567' }))).not.toBe('done');
    expect(await reasonOf(store.decrypt(keyId, sealed, {}))).not.toBe('done');
  });

  it('opens nothing with another key, and does not call that a refusal', async () => {
    const { store } = under();
    const keyId = await makeKey(under());
    const other = await makeKey(under());
    using plaintext = new Secret(randomBytes(32));
    const sealed = await store.encrypt(keyId, plaintext, CONTEXT);
    expect(await reasonOf(store.decrypt(other, sealed, CONTEXT))).not.toBe('done');
  });
}

function disabling(under: () => KeyStoreUnderTest): void {
  it('refuses with a disabled key, by the store’s own error name, until the key is enabled again', async () => {
    const { store, settle } = under();
    const keyId = await makeKey(under());
    using plaintext = new Secret(randomBytes(32));
    const canary = await store.encrypt(keyId, plaintext, CONTEXT);
    const disabling = permit(ROTATION, keyId);
    await store.disable(disabling.read);
    await settle();
    const refused = await store.decrypt(keyId, canary, CONTEXT);
    expect(refused).toMatchObject({ kind: 'refused', answer: { type: expect.any(String) } });
    expect(await store.describe(keyId)).toMatchObject({ keyId, state: 'deactivated' });
    expect(await reasonOf(store.encrypt(keyId, plaintext, CONTEXT))).toBe('KeyDisabled');
    expect(disabling.answers).toMatchObject([{ type: null }]);
    await store.enable(permit(ROTATION, keyId).read);
    await settle();
    expect((await store.decrypt(keyId, canary, CONTEXT)).kind).toBe('opened');
  });

  it('may be told twice', async () => {
    const { store, settle } = under();
    const keyId = await makeKey(under());
    for (const turn of [store.disable, store.disable, store.enable, store.enable]) expect(await reasonOf(turn(permit(ROTATION, keyId).read))).toBe('done');
    await settle();
    expect(await store.describe(keyId)).toMatchObject({ state: 'active' });
  });
}

function destroying(under: () => KeyStoreUnderTest): void {
  const sealedThenScheduled = async () => {
    const { store, settle } = under();
    const keyId = await makeKey(under());
    using plaintext = new Secret(randomBytes(32));
    const canary = await store.encrypt(keyId, plaintext, CONTEXT);
    await store.disable(permit(ROTATION, keyId).read);
    await settle();
    const scheduling = permit(ROTATION, keyId);
    await store.scheduleDestruction(scheduling.read);
    expect(scheduling.answers).toMatchObject([{ type: null, detail: { keyId } }]);
    await settle();
    return { store, keyId, canary };
  };

  it('shows a scheduled destruction with its day, refuses meanwhile, and has no such key afterwards', async () => {
    const { store, keyId, canary } = await sealedThenScheduled();
    const pending = await store.describe(keyId);
    expect(pending).toMatchObject({ keyId, state: 'deactivated', destruction: { at: expect.stringMatching(/^\d{4}-/) } });
    expect((await store.decrypt(keyId, canary, CONTEXT)).kind).toBe('refused');
    await under().passDays(under().destructionWindowDays - 1);
    expect(await store.describe(keyId)).toEqual(pending);
    await under().passDays(2);
    expect(await store.describe(keyId)).toBeNull();
    expect(await store.find(ROTATION)).toEqual([]);
    expect(await reasonOf(store.decrypt(keyId, canary, CONTEXT))).toBe('NotFound');
  });

  it('shows a key that was called back as disabled, for good', async () => {
    const { store, keyId, canary } = await sealedThenScheduled();
    await under().callBack(keyId);
    expect(await store.describe(keyId)).toMatchObject({ keyId, state: 'deactivated', destruction: null });
    await under().passDays(under().destructionWindowDays + 1);
    expect(await store.describe(keyId)).toMatchObject({ keyId, state: 'deactivated', destruction: null });
    expect((await store.decrypt(keyId, canary, CONTEXT)).kind).toBe('refused');
  });
}

function sendingOnce(under: () => KeyStoreUnderTest): void {
  it('sends nothing without leave', async () => {
    const { store, settle } = under();
    const keyId = await makeKey(under());
    for (const write of [store.create, store.disable, store.enable, store.scheduleDestruction]) await write(fenced);
    await settle();
    expect(await store.find(ROTATION)).toMatchObject([{ keyId, state: 'active' }]);
  });

  it('leaves a creation unanswered whose answer was lost, and does not send it again', async () => {
    const { store, settle, loseNextAnswer } = under();
    loseNextAnswer();
    const { read, answers } = permit(ROTATION);
    expect(await reasonOf(store.create(read))).toBe('Unreachable');
    await settle();
    expect(answers).toEqual([]);
    expect(await store.find(ROTATION)).toHaveLength(1);
  });
}
