import { Agent, request } from 'undici';
import { parse } from 'yaml';
import { deploymentOf, NAMESPACE, WORKLOAD } from './documents.ts';
import { failure } from './watch.ts';

/** An API server answers within milliseconds. Milliseconds. */
const TIMEOUT_MILLISECONDS = 10_000;
/** What is told of an answer that is no success. Characters. */
const ANSWER_MAX_CHARACTERS = 300;
/** It exists already. */
const HTTP_CONFLICT = 409;

/** As much of a kubeconfig as the lab writes: one cluster, one user, the authority and the token inline. */
interface Kubeconfig {
  readonly clusters: readonly { readonly cluster: { readonly server: string; readonly 'certificate-authority-data': string } }[];
  readonly users: readonly { readonly user: { readonly token: string } }[];
}

/** How the API of a kubeconfig is reached. */
export interface ApiAccess {
  readonly server: string;
  readonly certificateAuthorityPem: string;
  readonly token: string;
}

/** Reads a kubeconfig's first cluster and first user. Throws where it has none. */
export function accessOf(kubeconfigText: string): ApiAccess {
  const { clusters, users }: Kubeconfig = parse(kubeconfigText);
  const [cluster, user] = [clusters[0]?.cluster, users[0]?.user];
  if (cluster === undefined || user === undefined) throw failure('Malformed', 'the kubeconfig has no cluster or no user');
  return { server: cluster.server, certificateAuthorityPem: Buffer.from(cluster['certificate-authority-data'], 'base64').toString('utf8'), token: user.token };
}

async function ask(access: ApiAccess, method: 'GET' | 'POST', path: string, object?: object): Promise<unknown> {
  await using dispatcher = closing(
    new Agent({ connect: { ca: access.certificateAuthorityPem }, headersTimeout: TIMEOUT_MILLISECONDS, bodyTimeout: TIMEOUT_MILLISECONDS }),
  );
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${access.token}` };
  const body = object === undefined ? null : JSON.stringify(object);
  const answer = await request(`${access.server}${path}`, { method, headers, body, dispatcher: dispatcher.agent });
  const text = await answer.body.text();
  if (answer.statusCode >= 300 && answer.statusCode !== HTTP_CONFLICT) {
    throw failure('ServerError', `${method} ${path}: ${answer.statusCode} ${text.slice(0, ANSWER_MAX_CHARACTERS)}`);
  }
  return JSON.parse(text);
}

function closing(agent: Agent): AsyncDisposable & { readonly agent: Agent } {
  return { agent, [Symbol.asyncDispose]: () => agent.close() };
}

/** Creates the namespace, where it is not there, and a workload as its owner would. Throws where the API refuses. */
export async function createWorkload(access: ApiAccess, workload?: string): Promise<void> {
  const manager = 'fieldManager=platform-operator';
  await ask(access, 'POST', `/api/v1/namespaces?${manager}`, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
  await ask(access, 'POST', `/apis/apps/v1/namespaces/${NAMESPACE}/deployments?${manager}`, deploymentOf(workload));
}

/** Where the workload's pods are, and their names. */
export async function podNames(access: ApiAccess): Promise<{ readonly url: string; readonly names: readonly string[] }> {
  const path = `/api/v1/namespaces/${NAMESPACE}/pods`;
  const { items } = (await ask(access, 'GET', path)) as { readonly items: readonly { readonly metadata: { readonly name: string } }[] };
  return { url: `${access.server}${path}`, names: items.map(({ metadata }) => metadata.name) };
}

/** The addresses of the pods that have one. */
export async function podAddresses(access: ApiAccess): Promise<readonly string[]> {
  const { items } = (await ask(access, 'GET', `/api/v1/namespaces/${NAMESPACE}/pods`)) as {
    readonly items: readonly { readonly status?: { readonly podIP?: string } }[];
  };
  return items.flatMap(({ status }) => status?.podIP ?? []);
}

/** Where the workload's template has its guests fetch their key: `repository/type/tag`. Throws where it names none yet. */
export async function keyPathIn(access: ApiAccess): Promise<string> {
  const object = (await ask(access, 'GET', `/apis/apps/v1/namespaces/${NAMESPACE}/deployments/${WORKLOAD}`)) as DeploymentObject;
  const variables = object.spec.template.spec.containers.flatMap(({ env }) => env ?? []);
  const path = /^kbs:\/\/\/(.+)$/.exec(variables.find(({ name }) => name === 'KEY_URI')?.value ?? '')?.[1];
  if (path === undefined) throw failure('NotFound', `${WORKLOAD}: its template names no key`);
  return path;
}

/** As much of a Deployment as is looked at. */
interface DeploymentObject {
  readonly spec: {
    readonly template: { readonly spec: { readonly containers: readonly { readonly env?: readonly { readonly name: string; readonly value?: string }[] }[] } };
  };
}
