/** A revocation in words: what it names, and what each receipt of it saw. The page, `keyturn why` and `keyturn verify` say the same. */
import type { RevocationSubject } from './documents/trust.ts';
import { canonicalJson, type Json } from './json.ts';

/** Names of proxies, targets and keys that one line tells; the export has all. */
const NAMES_SHOWN = 12;

/** What is not trusted any more, as a noun: `key 2 of chat`. */
export function subjectWords(subject: RevocationSubject): string {
  switch (subject.kind) {
    case 'key':
      if ('path' in subject) return `the key at ${subject.path}`;
      return 'keyId' in subject ? `the key ${subject.keyId}` : `key ${subject.epoch} of ${subject.workload}`;
    case 'release':
      return `release ${subject.serial} of ${subject.workload}`;
    case 'workload':
      return `all of ${subject.workload}`;
    case 'all':
      return 'everything';
    case 'target':
      return `the object ${subject.cluster}/${subject.namespace}/${subject.name}`;
    case 'device':
      return 'chipId' in subject ? `the machine ${subject.chipId}` : `the device ${subject.ueid}`;
    case 'reference-value':
      return `the measurement ${subject.name} = ${canonicalJson(subject.value)}`;
    case 'signer':
      return `${subject.key === undefined ? 'every key' : `the key ${subject.key}`} of ${subject.person}${subject.since === undefined ? '' : ` since ${subject.since}`}`;
  }
}

/**
 * What a receipt of a revocation or a reinstatement saw, a line each; empty for a step that says nothing more than its name. Evidence
 * that another version wrote otherwise is left out.
 */
export function sawWords(step: string, evidence: Json): readonly string[] {
  const members = membersOf(evidence);
  switch (step) {
    case 'refuse-at-proxies':
    case 'lift-at-proxies':
      return Object.entries(membersOf(members.brokers)).map(([kbs, seen]) => proxyWords(kbs, membersOf(seen)));
    case 'publish-policy':
    case 'publish-reference-values':
      return Object.entries(membersOf(members.brokers)).map(([kbs, seen]) => generationWords(kbs, membersOf(seen)));
    case 'delete-resources':
    case 'delete-former-resources':
      return deletionWords(listOf(members.deletions).map(membersOf));
    case 'touch-objects':
      return Object.entries(membersOf(members.objects)).map(([target, seen]) => (seen === 'not there' ? `${target} is not there` : `${target} was written to`));
    case 'confirm-refused':
      return refusalWords(listOf(members.refusals).map(membersOf));
    case 'find-holders':
      return Object.entries(membersOf(members.holders)).map(([target, pods]) => `${target}: ${counted(listOf(pods).length, 'pod')}`);
    case 'evict-pods':
      return members.evict === false
        ? ['the document asks for no eviction']
        : Object.keys(membersOf(members.objects)).map((target) => `${target}: none is left`);
    case 'disable-keys':
    case 'enable-keys':
      return listOf(members.keys).map((key) => keyWords(membersOf(key)));
    case 'lift-revocation':
      return liftWords(members);
    default:
      return [];
  }
}

function proxyWords(kbs: string, { entry, acknowledged }: Members): string {
  const proxies = listOf(acknowledged).map((one) => textOf(membersOf(one).proxy));
  return `${kbs}: entry ${textOf(entry)}, acknowledged by ${proxies.length === 0 ? 'no proxy, since none is heard from' : namesOf(proxies)}`;
}

function generationWords(kbs: string, { generation, replicas }: Members): string {
  return `${kbs}: generation ${textOf(generation)}${replicas === undefined ? '' : ` at ${counted(Number(replicas), 'replica')}`}`;
}

function deletionWords(deletions: readonly Members[]): readonly string[] {
  const never = deletions.filter(({ put }) => put === 'never').length;
  return [`${counted(deletions.length - never, 'path')} emptied${never === 0 ? '' : `, ${never} never held anything`}`];
}

/** Nobody can be the guest of a path that holds nothing: what was asked is told apart. */
function refusalWords(refusals: readonly Members[]): readonly string[] {
  const asked = refusals.filter(({ guests }) => typeof guests === 'number' && guests > 0).length;
  return [`${asked} of ${counted(refusals.length, 'path')} asked for as an attested guest`];
}

function keyWords({ keyId, refusedSince, sharedWith, enabledAt }: Members): string {
  const name = keyId === undefined || keyId === null ? 'no key was ever used' : `key ${textOf(keyId)}`;
  if (sharedWith !== undefined) return `${name} stays: others need it`;
  if (enabledAt !== undefined) return `${name} decrypts again`;
  return refusedSince === undefined ? name : `${name} refused since ${textOf(refusedSince)}`;
}

function liftWords({ freed, stayRevoked }: Members): readonly string[] {
  const came = listOf(freed).map((one) => textOf(membersOf(one).revision));
  const stay = listOf(stayRevoked).map(textOf);
  return [...(came.length === 0 ? [] : [`${namesOf(came)} may run again`]), ...(stay.length === 0 ? [] : [`${namesOf(stay)} stays revoked by another`])];
}

type Members = Readonly<Record<string, Json | undefined>>;

function membersOf(value: Json | undefined): Members {
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? (value as Members) : {};
}

function listOf(value: Json | undefined): readonly Json[] {
  return Array.isArray(value) ? value : [];
}

function textOf(value: Json | undefined): string {
  return typeof value === 'string' ? value : canonicalJson(value ?? null);
}

function namesOf(names: readonly string[]): string {
  const more = names.length - NAMES_SHOWN;
  return `${names.slice(0, NAMES_SHOWN).join(', ')}${more <= 0 ? '' : ` and ${more} more`}`;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
