import { createHash, verify } from 'node:crypto';
import type { Instant } from '../../instant.ts';
import { type Certificate, certificateOf } from './certificate.ts';
import { pathOf, type Scope, troublesOf } from './chain.ts';
import { type Finding, findingOf, malformed, type Trouble } from './finding.ts';
import { canonicalXml, readXml, type XmlElement } from './xml.ts';

/** Reference values of a device as NVIDIA signs them (ISO/IEC 19770-2 SWID, TCG RIM): what is left of the XML after its signature was checked. */
export interface Rim {
  readonly product: string;
  readonly version: string;
  /** The signature holds under the first certificate. */
  readonly holds: boolean;
  /** Signer first, in DER. Not verified. */
  readonly certificates: readonly Uint8Array[];
}

/** How a RIM was read: in this thread (`readRim`), or in one that may die of it. */
export type RimReader = (bytes: Buffer) => Promise<Rim | Trouble>;

/** The largest that was seen has 26 KiB. */
export const RIM_MAX_BYTES = 1024 * 1024;
/** Signer, two CAs, root; and room. */
const CERTIFICATES_MAX = 8;

const DSIG = 'http://www.w3.org/2000/09/xmldsig#';
const C14N = 'http://www.w3.org/2006/12/xml-c14n11';
/** Exactly what NVIDIA writes. Another algorithm, transform or reference is refused: each is a way to sign less than what is read. */
const ALGORITHMS = {
  CanonicalizationMethod: C14N,
  SignatureMethod: 'http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384',
  DigestMethod: 'http://www.w3.org/2001/04/xmldsig-more#sha384',
} as const;
const TRANSFORMS = ['http://www.w3.org/2000/09/xmldsig#enveloped-signature', C14N];

/** Reads a RIM and checks its one enveloped signature (XML-DSIG §3.2). Pure; a document that is not exactly of this form is a Trouble. */
export function readRim(bytes: Uint8Array): Rim | Trouble {
  if (bytes.length > RIM_MAX_BYTES) return { verdict: 'malformed', reason: 'LimitExceeded', about: `${bytes.length} bytes, expected at most ${RIM_MAX_BYTES}` };
  try {
    return checked(readXml(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch (thrown) {
    return malformed(thrown instanceof Error ? thrown.message.slice(0, 120) : 'not XML');
  }
}

function checked(root: XmlElement): Rim {
  if (root.local !== 'SoftwareIdentity') throw new Error(`a document ${root.local}`);
  const signature = only(root, 'Signature');
  if (count(root, 'Signature') !== 1) throw new Error('more than one Signature');
  const [info, value, key, ...more] = elementsOf(signature);
  if (info === undefined || value === undefined || key === undefined || more.length > 0) throw new Error('a Signature with other parts');
  expectName(info, 'SignedInfo');
  expectName(value, 'SignatureValue');
  expectName(key, 'KeyInfo');
  const stated = digestIn(info);
  const digest = createHash('sha384').update(canonicalXml(root, signature)).digest();
  const certificates = elementsOf(only(key, 'X509Data')).map((one) => base64In(expectName(one, 'X509Certificate')));
  const [first] = certificates;
  if (first === undefined || certificates.length > CERTIFICATES_MAX) throw new Error('no certificate, or more than a chain has');
  const signer = certificateOf(first).key;
  const isEc = signer.asymmetricKeyType === 'ec' && signer.asymmetricKeyDetails?.namedCurve === 'secp384r1';
  const signs = isEc && verify('sha384', Buffer.from(canonicalXml(info)), { key: signer, dsaEncoding: 'ieee-p1363' }, base64In(value));
  // Read from the tree whose canonical form was digested, and from nothing else.
  const meta = elementsOf(root).find(({ local }) => local === 'Meta');
  return {
    product: attributeOf(meta, 'product') ?? attributeOf(root, 'name') ?? '',
    version: attributeOf(meta, 'colloquialVersion') ?? '',
    holds: signs && digest.equals(stated),
    certificates,
  };
}

/** What the signature says of the document: one reference, to the whole of it. */
function digestIn(info: XmlElement): Buffer {
  const [canonicalization, method, reference, ...more] = elementsOf(info);
  if (canonicalization === undefined || method === undefined || reference === undefined || more.length > 0) throw new Error('not exactly one Reference');
  expectAlgorithm(canonicalization, 'CanonicalizationMethod');
  expectAlgorithm(method, 'SignatureMethod');
  expectName(reference, 'Reference');
  if (reference.attributes.length !== 1 || attributeOf(reference, 'URI') !== '') throw new Error('a Reference to a part of the document');
  const [transforms, digestMethod, digest, ...others] = elementsOf(reference);
  if (transforms === undefined || digestMethod === undefined || digest === undefined || others.length > 0) throw new Error('a Reference with other parts');
  const applied = elementsOf(expectName(transforms, 'Transforms')).map((one) => attributeOf(expectName(one, 'Transform'), 'Algorithm'));
  if (applied.length !== TRANSFORMS.length || applied.some((one, place) => one !== TRANSFORMS[place])) throw new Error('other transforms');
  if (elementsOf(transforms).some((one) => one.children.length > 0)) throw new Error('a Transform with parameters');
  expectAlgorithm(digestMethod, 'DigestMethod');
  return base64In(expectName(digest, 'DigestValue'));
}

function expectAlgorithm(element: XmlElement, name: keyof typeof ALGORITHMS): void {
  expectName(element, name);
  if (element.attributes.length !== 1 || attributeOf(element, 'Algorithm') !== ALGORITHMS[name] || element.children.length > 0)
    throw new Error(`another ${name}`);
}

function expectName(element: XmlElement, local: string): XmlElement {
  if (element.local !== local || element.namespace !== DSIG) throw new Error(`${element.local} where ${local} belongs`);
  return element;
}

/** The elements in an element; text beside them may only be white space. */
function elementsOf(element: XmlElement): readonly XmlElement[] {
  if (element.children.some((child) => typeof child === 'string' && child.trim() !== '')) throw new Error(`text in ${element.local}`);
  return element.children.filter((child) => typeof child !== 'string');
}

function only(parent: XmlElement, local: string): XmlElement {
  const [found, ...more] = elementsOf(parent).filter((one) => one.local === local && one.namespace === DSIG);
  if (found === undefined || more.length > 0) throw new Error(`not exactly one ${local}`);
  return found;
}

/** How many elements of the signature's namespace have this name, at any depth. */
function count(element: XmlElement, local: string): number {
  const own = element.local === local && element.namespace === DSIG ? 1 : 0;
  return element.children.reduce((sum, child) => sum + (typeof child === 'string' ? 0 : count(child, local)), own);
}

function attributeOf(element: XmlElement | undefined, local: string): string | null {
  return element?.attributes.find((one) => one.local === local && one.namespace === '')?.value ?? null;
}

/** Base64 that is nothing else; white space between its lines is left out. */
function base64In(element: XmlElement): Buffer {
  const text = element.children
    .map((child) => (typeof child === 'string' ? child : '<'))
    .join('')
    .replace(/[ \n\t]/g, '');
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) throw new Error(`${element.local} is not base64`);
  return Buffer.from(text, 'base64');
}

/** Judges what a reader made of a RIM: signature, chain to NVIDIA's root for reference values, dates. It ends with the first certificate of its chain. */
export function judgeRim(rim: Rim, scope: Scope): Finding {
  const name = `RIM ${rim.product} ${rim.version}`;
  let chain: readonly Certificate[];
  try {
    chain = rim.certificates.map((der) => certificateOf(der));
  } catch {
    return findingOf('rim', name, null, [malformed('a certificate that cannot be read')]);
  }
  const [signer] = chain;
  if (signer === undefined) return findingOf('rim', name, null, [malformed('no certificate')]);
  const path = pathOf(signer, chain, ['nvidia-rim'], scope);
  const until: Instant = 'verdict' in path ? signer.until : path.until;
  const troubles: Trouble[] = 'verdict' in path ? [path] : [...troublesOf(path, scope)];
  if (!rim.holds) troubles.push({ verdict: 'tampered', reason: 'CollateralTampered', about: '' });
  if (signer.x509.ca) troubles.push({ verdict: 'untrusted', reason: 'SignerWrong', about: signer.commonName });
  return findingOf('rim', name, until, troubles);
}
