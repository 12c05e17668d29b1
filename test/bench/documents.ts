import { readFileSync } from 'node:fs';
import { stringify } from 'yaml';
import { signBundle } from '#src/adapters/sigstore/index.ts';
import { type Digest, digestOf } from '#src/digest.ts';
import { daysAfter, imageOf, initDataText, releaseText } from '#src/lab/documents.ts';
import type { Setting } from '#src/lab/setting.ts';

/** What a merge brings, by path in the repository. */
export type Files = Readonly<Record<string, string | Buffer>>;

/** The init-data of a workload's guests. */
export function initDataOf({ publicUrl }: Setting, workload: string): string {
  return initDataText({ kbsUrl: publicUrl, image: imageOf(1, workload) });
}

/** The first release of a workload, signed. Where it has no object, its plan is made, its key is published, and its run waits. */
export async function releaseFiles(setting: Setting, workload: string): Promise<Files> {
  const [model] = setting.models;
  if (model === undefined) throw new Error('the lab has no weights');
  const initData = initDataOf(setting, workload);
  const file = `guests/${workload}/1.toml`;
  const text = releaseText({
    workload,
    serial: 1,
    previous: null,
    expires: daysAfter(Date.now(), 30),
    modelFolder: model.folder,
    manifestDigest: model.manifestDigest,
    initData: { file, digest: digestOf(initData) },
    soakSeconds: 0,
  });
  return { [file]: initData, ...(await signed(setting, `releases/${workload}/1.yaml`, text, 2)) };
}

/** A revocation of a workload's first key, signed by one revoker. */
export async function revocationFiles(setting: Setting, workload: string): Promise<{ readonly digest: Digest; readonly files: Files }> {
  const id = `leaked-${workload}`;
  const text = stringify({
    apiVersion: 'keyturn.dev/v1alpha1',
    kind: 'Revocation',
    id,
    subject: { kind: 'key', workload, epoch: 1 },
    reason: 'keyCompromise',
    why: 'the data key was found in a log',
    evict: false,
    destroy: false,
    recovery: 'a new release under a new key, approved by the approvers',
  });
  return { digest: digestOf(text), files: await signed(setting, `revocations/${id}.yaml`, text, 1) };
}

async function signed({ approvers }: Setting, path: string, text: string, people: number): Promise<Files> {
  const bundles = await Promise.all(
    approvers
      .slice(0, people)
      .map(async ({ id, keyFile }) => [path.replace('.yaml', `.${id}.sigstore.json`), await signBundle(Buffer.from(text), readFileSync(keyFile, 'utf8'))]),
  );
  return { [path]: text, ...Object.fromEntries(bundles) };
}
