import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { revocationText } from './documents.ts';
import { runGit } from './host.ts';
import type { Setting } from './setting.ts';
import { accessOf, podNames } from './workload.ts';

/** The key that serves when a story is told (epochs count per workload, and every rotation has a key of its own), and a name for its revocation. */
const IN_SERVICE = { rotation: { epoch: 3, id: 'leaked-key' }, revocation: { epoch: 1, id: 'leaked-again' } } as const;

/** Makes a clone that a person can commit in, with a revocation in it that nobody has signed yet. Returns its folder. */
async function makeClone(setting: Setting, { epoch, id }: (typeof IN_SERVICE)[keyof typeof IN_SERVICE]): Promise<string> {
  const clone = join(setting.folder, 'releases');
  await runGit(setting.folder, ['clone', '--quiet', setting.farSides.gitFolder, clone]);
  await runGit(clone, ['config', 'user.name', 'lab']);
  await runGit(clone, ['config', 'user.email', 'lab@keyturn.invalid']);
  await mkdir(join(clone, 'revocations'), { recursive: true });
  await writeFile(join(clone, 'revocations', `${id}.yaml`), revocationText(id, epoch));
  return clone;
}

/** Writes a configuration of curl's with which the cluster's API answers. Returns the words that use it. */
async function makeCurl(setting: Setting): Promise<string> {
  const { certificateAuthorityPem, token } = accessOf(setting.farSides.kubeconfig);
  const [authority, config] = [join(setting.folder, 'kubernetes-ca.pem'), join(setting.folder, 'kubernetes.curl')];
  await writeFile(authority, certificateAuthorityPem);
  await writeFile(config, `silent\ncacert = "${authority}"\nheader = "authorization: Bearer ${token}"\n`, { mode: 0o600 });
  return `curl --config ${config}`;
}

/** What a person can do with a lab that stays up: lines with this lab's real paths, to be copied into another terminal. */
export async function advise(setting: Setting, story: keyof typeof IN_SERVICE): Promise<readonly string[]> {
  const [clone, curl] = await Promise.all([makeClone(setting, IN_SERVICE[story]), makeCurl(setting)]);
  const { url, names } = await podNames(accessOf(setting.farSides.kubeconfig));
  const keyturn = `${process.execPath} ${setting.keyturn.mainFile}`;
  const [revoker] = setting.approvers;
  return [
    'The story is told, and everything stays up until Ctrl-C. Nothing here protects anything: keys and evidence are the lab’s.',
    'where everything stands:',
    ...(setting.dashboardUrl === null ? [] : [`  ${setting.dashboardUrl}`]),
    `  ${keyturn} status --config ${setting.configFile}`,
    'what the guests say, what the controller and the proxy log:',
    `  tail -f ${join(setting.folder, 'logs')}/*.log`,
    'revoke the key in service:',
    `  cd ${clone}`,
    `  ${keyturn} sign revocations/${IN_SERVICE[story].id}.yaml --key ${revoker?.keyFile} --signer ${revoker?.id}`,
    '  git add --all && git commit --quiet --message revoke && git push --quiet',
    'then restart a pod; the one that takes its place gets no key:',
    `  ${curl} --request DELETE --output /dev/null ${url}/${names[0]}`,
  ];
}
