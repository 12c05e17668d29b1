import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Answer, Grant, Want, Wrapped } from '#src/domain/kbs.ts';
import { type KeyPath, probePath } from '#src/domain/paths.ts';
import { Secret } from '#src/secret.ts';
import type { KeyBroker, ProberEvidence, Read } from '#src/world.ts';

/** A key broker to be held to its contract, and the ways to disturb it. */
export interface KeyBrokerStand {
  readonly broker: KeyBroker;
  /** The next write of this kind is done, and its answer lost. */
  readonly loseAnswer: (kind: 'policy' | 'referenceValue' | 'resource' | 'delete') => void;
  /** The next write of this kind stays on its way, and nobody hears of it. */
  readonly hold: (kind: 'policy' | 'referenceValue' | 'resource' | 'delete') => void;
  /** Everything held arrives, with the credentials that it was sent with. */
  readonly land: () => Promise<void>;
  /** Moves the one clock on. */
  readonly advance: (seconds: number) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** The prober that is only ever told which policy is installed. */
export const PROBER: ProberEvidence = { tee: 'sample', svn: '0', initData: null };

const TOML = 'version = "0.1.0"\nalgorithm = "sha256"\n\n[data]\n"workload.id" = "w"\n';
const GUEST: ProberEvidence = { tee: 'sample', svn: '1', initData: TOML };

/** What was answered to each permit of a read, in order; a permit without an answer stays null. */
export interface Asked<T> {
  readonly read: Read<T>;
  readonly answers: (Answer | null)[];
}

/** Leave to send this value, as often as it is asked for. */
export function permits<T>(value: T): Asked<T> {
  const answers: (Answer | null)[] = [];
  const read: Read<T> = async () => {
    const index = answers.push(null) - 1;
    return {
      value,
      answered: async (answer) => {
        if (answers[index] !== null) throw new Error('a permit was answered twice');
        answers[index] = answer;
      },
    };
  };
  return { read, answers };
}

/** The bytes of a key at a path, wrapped in nothing. */
export function wrapped(path: KeyPath, bytes: string): Wrapped {
  return {
    path,
    store: 's',
    keyId: 'k',
    context: {},
    wrapped: Buffer.from(bytes).toString('base64'),
    canary: '',
    digest: `sha256:${'0'.repeat(64)}`,
    signature: '',
  };
}

/** Opens what `wrapped` made. */
export async function unwrap(row: Wrapped): Promise<Secret> {
  return new Secret(Buffer.from(row.wrapped, 'base64'));
}

/** What a sample guest must hold to be affirming, and one value of our own. */
export const REFERENCE_VALUES = { launch_digest: ['abcde'], major_version: 1, minimum_minor_version: 1, svn: ['1', '2'], 'keyturn.generation': 1 };

/** Runs the contract of `KeyBroker` (`src/world.ts`) against an implementer. */
export function keyBrokerContract(name: string, open: () => Promise<KeyBrokerStand>): void {
  describe(`${name}, as a key broker`, () => {
    let stand: KeyBrokerStand;
    let path: KeyPath;
    let grant: Grant;

    beforeEach(async () => {
      stand = await open();
      path = `${stand.broker.repository}/w/s1-v1-0-00000000`;
      const digest = await crypto.subtle.digest('SHA-256', Buffer.from(TOML));
      grant = {
        paths: [path],
        tee: 'sample',
        initData: Buffer.from(digest).toString('base64'),
        devices: { gpu: 0, switch: 0 },
        claims: { 'sample.svn': ['1'] },
      };
    });
    afterEach(() => stand.close());

    const want = (generation: number, grants: readonly Grant[] = []): Want => ({
      kbs: stand.broker.name,
      installation: 'contract',
      generation,
      grants,
      foreign: [],
      denied: { paths: [], initData: [], devices: [] },
      referenceValues: REFERENCE_VALUES,
    });
    const types = async (asked: KeyPath, as: ProberEvidence = PROBER): Promise<readonly (string | null)[]> => {
      const answers = await stand.broker.ask(asked, as, 'broker');
      return answers.map((answer) => answer.type);
    };
    /** A whole release: values, bytes and policy. */
    const release = async (): Promise<void> => {
      await stand.broker.publishReferenceValues(permits(want(3)).read);
      await stand.broker.putResource(permits(wrapped(path, 'key bytes')).read, unwrap);
      await stand.broker.publishPolicy(permits(want(3, [grant])).read);
    };

    it('tells its probes which generation of the policy is installed', async () => {
      await stand.broker.publishPolicy(permits(want(3)).read);
      expect(await types(probePath(3))).toEqual(['PluginInternalError']);
      expect(await types(probePath(2))).toEqual(['PluginInternalError']);
      expect(await types(probePath(4))).toEqual(['PolicyDeny']);
      expect(await types('keyturn/probe/x0123456789abcdef')).toEqual(['PolicyDeny']);
    });

    it('sends nothing without leave', async () => {
      await stand.broker.publishPolicy(permits(want(3)).read);
      await stand.broker.publishPolicy(async () => null);
      await stand.broker.publishReferenceValues(async () => null);
      expect(await types(probePath(3))).toEqual(['PluginInternalError']);
      expect(await stand.broker.referenceValue('svn')).toBeNull();
    });

    it('answers a permit once, with what the broker said', async () => {
      const { read, answers } = permits(want(3));
      await stand.broker.publishPolicy(read);
      expect(answers).toMatchObject([{ status: 200, type: null }]);
    });

    it('reads back every reference value that it published, of any shape', async () => {
      await stand.broker.publishReferenceValues(permits(want(3)).read);
      for (const [id, value] of Object.entries(REFERENCE_VALUES)) expect(await stand.broker.referenceValue(id)).toEqual(value);
      expect(await stand.broker.referenceValue('never-sent')).toBeNull();
    });

    it('releases a key to the guest of its grant, and to no other', async () => {
      await release();
      const [answer] = await stand.broker.ask(path, GUEST, 'broker');
      expect(answer).toMatchObject({ status: 200, type: null });
      expect(await types(path, { ...GUEST, svn: '2' })).toEqual(['PolicyDeny']);
      expect(await types(path, { ...GUEST, svn: '3' })).toEqual(['PolicyDeny']);
      expect(await types(path, { ...GUEST, initData: `${TOML}# another` })).toEqual(['PolicyDeny']);
      expect(await types(path, PROBER)).toEqual(['PolicyDeny']);
    });

    it('refuses a key at once when the policy no longer grants it', async () => {
      await release();
      await stand.broker.publishPolicy(permits(want(4)).read);
      expect(await types(path, GUEST)).toEqual(['PolicyDeny']);
    });

    it('deletes; and the deletion of what is not there is an answer like any other', async () => {
      await release();
      const first = permits(path);
      await stand.broker.deleteResource(first.read);
      expect(first.answers).toMatchObject([{ status: 200, type: null }]);
      expect(await types(path, GUEST)).toEqual(['PluginInternalError']);
      const second = permits(path);
      await stand.broker.deleteResource(second.read);
      expect(second.answers).toMatchObject([{ type: 'PluginInternalError' }]);
    });

    it('never stores a key without bytes', async () => {
      const empty = permits(wrapped(path, ''));
      await expect(stand.broker.putResource(empty.read, unwrap)).rejects.toMatchObject({ reason: 'InvalidRequest' });
      expect(empty.answers).toEqual([null]);
    });

    it('leaves a permit unanswered where no answer came, though the write is done', async () => {
      stand.loseAnswer('policy');
      const { read, answers } = permits(want(3));
      await expect(stand.broker.publishPolicy(read)).rejects.toMatchObject({ reason: 'Unreachable' });
      expect(answers).toEqual([null]);
      expect(await types(probePath(3))).toEqual(['PluginInternalError']);
    });

    it('says for each kind of write after how long none can land', () => {
      for (const seconds of Object.values(stand.broker.lateWriteSeconds)) expect(seconds).toBeGreaterThan(0);
    });

    it('has late writes until then', async () => {
      await stand.broker.publishPolicy(permits(want(3)).read);
      stand.hold('policy');
      await expect(stand.broker.publishPolicy(permits(want(4)).read)).rejects.toMatchObject({ reason: 'Unreachable' });
      expect(await types(probePath(4))).toEqual(['PolicyDeny']);
      await stand.land();
      expect(await types(probePath(4))).toEqual(['PluginInternalError']);
    });

    it('has none any more once W is over', async () => {
      await stand.broker.publishPolicy(permits(want(3)).read);
      stand.hold('policy');
      await expect(stand.broker.publishPolicy(permits(want(4)).read)).rejects.toMatchObject({ reason: 'Unreachable' });
      await stand.advance(stand.broker.lateWriteSeconds.policy);
      await stand.land();
      expect(await types(probePath(4))).toEqual(['PolicyDeny']);
    });
  });
}
