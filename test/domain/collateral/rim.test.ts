import { createHash, sign } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { canonicalXml, readXml } from '#src/domain/collateral/xml.ts';
import { type Made, make, trusting } from './pki.ts';
import { judged, told, vector } from './vectors.ts';

const AT = '2025-06-15T00:00:00Z';
const root = make({ name: 'RIM Root', ca: true, curve: 'P-384' });
const signer = make({ name: 'RIM Signer', by: root, curve: 'P-384' });
const trust = trusting('nvidia-rim', root);

const DS = 'http://www.w3.org/2000/09/xmldsig#';
const C14N = 'http://www.w3.org/2006/12/xml-c14n11';
const BODY = '<SoftwareIdentity xmlns="urn:swid" name="GH100"><Meta colloquialVersion="1.2.3" product="GH100"/><Payload><Resource index="0"/></Payload>';

function signedInfo(digest: string, change: (text: string) => string = (text) => text): string {
  return change(
    `<ds:SignedInfo><ds:CanonicalizationMethod Algorithm="${C14N}"></ds:CanonicalizationMethod>` +
      '<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"></ds:SignatureMethod>' +
      `<ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="${DS}enveloped-signature"></ds:Transform><ds:Transform Algorithm="${C14N}"></ds:Transform></ds:Transforms>` +
      `<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"></ds:DigestMethod><ds:DigestValue>${digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>`,
  );
}

interface Shape {
  readonly body?: string;
  readonly by?: Made;
  /** Changes what is signed, before it is signed. */
  readonly info?: (text: string) => string;
  /** Changes the finished document, after it was signed. */
  readonly after?: (text: string) => string;
}

/** A RIM, signed as NVIDIA signs one. */
function rim({ body = BODY, by = signer, info, after = (text) => text }: Shape = {}): Buffer {
  const plain = canonicalXml(readXml(`${body}</SoftwareIdentity>`));
  const digest = createHash('sha384').update(plain).digest('base64');
  const stated = signedInfo(digest, info);
  // As the top of a subset SignedInfo declares what is in scope: the document's default namespace too.
  const canonical = stated.replace('<ds:SignedInfo>', `<ds:SignedInfo xmlns="urn:swid" xmlns:ds="${DS}">`);
  const value = sign('sha384', Buffer.from(canonical), { key: by.key, dsaEncoding: 'ieee-p1363' }).toString('base64');
  const chain = [by, root].map(({ certificate }) => `<ds:X509Certificate>${certificate.x509.raw.toString('base64')}</ds:X509Certificate>`).join('');
  const signature = `<ds:Signature xmlns:ds="${DS}">${stated}<ds:SignatureValue>${value}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>${chain}</ds:X509Data></ds:KeyInfo></ds:Signature>`;
  return Buffer.from(after(`${body}${signature}</SoftwareIdentity>`));
}

const verdictOf = async (bytes: Buffer): Promise<string> => told(await judged(bytes, { at: AT, trust }));
const MALFORMED = 'malformed CollateralMalformed';

describe('a RIM', () => {
  it('signed as NVIDIA’s are is good, and named from what was signed', async () => {
    expect(await judged(rim(), { at: AT, trust })).toMatchObject({ verdict: 'good', item: 'RIM GH100 1.2.3' });
    expect(await verdictOf(rim({ body: `<?xml version="1.0" encoding="UTF-8"?>\n${BODY}`.replace('urn:swid', 'urn:swid') }))).toBe('good');
  });

  it('of another signer than NVIDIA’s own chain is untrusted, and of a CA itself too', async () => {
    const stranger = make({ name: 'RIM Root', ca: true, curve: 'P-384' });
    expect(await verdictOf(rim({ by: make({ name: 'RIM Signer', by: stranger, curve: 'P-384' }) }))).toMatch(/^untrusted /);
    expect(await verdictOf(rim({ by: make({ name: 'RIM CA', by: root, ca: true, curve: 'P-384' }) }))).toBe('untrusted SignerWrong');
    expect(told(await judged(rim(), { at: AT }))).toBe('untrusted RootNotPinned');
  });

  it.each<[string, Shape]>([
    ['two SignedInfo', { after: (text) => text.replace(/(<ds:SignedInfo>.*<\/ds:SignedInfo>)/s, '$1$1') }],
    ['two SignedInfo, the forged one first', { after: (text) => text.replace('<ds:SignedInfo>', `${signedInfo('AAAA')}<ds:SignedInfo>`) }],
    ['two signatures', { after: (text) => text.replace(/(<ds:Signature .*<\/ds:Signature>)/s, '$1$1') }],
    ['a signature inside what is signed', { body: BODY.replace('<Payload>', `<Payload><d:Signature xmlns:d="${DS}"/>`) }],
    ['no signature', { after: (text) => text.replace(/<ds:Signature .*<\/ds:Signature>/s, '') }],
    ['a document type', { after: (text) => `<!DOCTYPE x>${text}` }],
    ['entities that grow', { after: (text) => `<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>${text.replace('GH100', '&b;')}` }],
    ['an entity from elsewhere', { after: (text) => `<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>${text}` }],
    ['an entity in a text', { after: (text) => text.replace('<Payload>', '<Payload>&amp;') }],
    ['a comment in the digest', { after: (text) => text.replace('<ds:DigestValue>', '<ds:DigestValue><!-- -->') }],
    ['a comment elsewhere', { after: (text) => text.replace('<Payload>', '<Payload><!-- -->') }],
    ['a processing instruction', { after: (text) => text.replace('<Payload>', '<Payload><?x y?>') }],
    ['a section of raw text', { after: (text) => text.replace('<Payload>', '<Payload><![CDATA[x]]>') }],
    ['an xml: attribute', { body: BODY.replace('<Payload>', '<Payload xml:space="preserve">') }],
    ['an attribute twice', { body: BODY.replace('<Payload>', '<Payload a="1" a="2">') }],
    ['an attribute twice under two prefixes', { body: BODY.replace('<Payload>', '<Payload xmlns:p="urn:x" xmlns:q="urn:x" p:a="1" q:a="2">') }],
    ['a prefix that nobody declared', { body: BODY.replace('<Payload>', '<Payload p:a="1">') }],
    ['a reference to a part', { info: (text) => text.replace('URI=""', 'URI="#part"') }],
    ['two references', { info: (text) => text.replace(/(<ds:Reference .*<\/ds:Reference>)/s, '$1$1') }],
    ['a transform that selects', { info: (text) => text.replace('enveloped-signature', 'xpath') }],
    ['one transform more', { info: (text) => text.replace('</ds:Transforms>', `<ds:Transform Algorithm="${C14N}"></ds:Transform></ds:Transforms>`) }],
    ['a weaker digest', { info: (text) => text.replace('xmldsig-more#sha384', 'xmldsig-more#md5') }],
    ['another signature method', { info: (text) => text.replace('ecdsa-sha384', 'hmac-sha256') }],
    ['canonicalisation with comments', { info: (text) => text.replace(C14N, `${C14N}#WithComments`) }],
    ['text behind the document', { after: (text) => `${text}x` }],
    ['two documents', { after: (text) => `${text}<a/>` }],
    ['a document that does not end', { after: (text) => text.slice(0, -5) }],
    ['another document', { body: BODY.replace('SoftwareIdentity', 'Else'), after: (text) => text.replace('</SoftwareIdentity>', '</Else>') }],
    ['a control character', { after: (text) => text.replace('<Payload>', '<Payload>\u0001') }],
    ['nesting without an end', { after: (text) => text.replace('<Payload>', `<Payload>${'<a>'.repeat(5000)}`) }],
  ])('with %s is refused', async (_, shape) => {
    const made = (): Buffer => rim(shape);
    let bytes: Buffer;
    try {
      bytes = made();
    } catch {
      // What this reader does not read it cannot sign for the test either: the text alone is judged.
      bytes = Buffer.from(`${shape.body ?? BODY}</SoftwareIdentity>`);
    }
    expect(await verdictOf(bytes)).toBe(MALFORMED);
  });

  it('that was changed after it was signed is tampered with', async () => {
    expect(await verdictOf(rim({ after: (text) => text.replace('1.2.3', '1.2.4') }))).toBe('tampered CollateralTampered');
    expect(await verdictOf(rim({ after: (text) => text.replace('<Resource index="0"/>', '') }))).toBe('tampered CollateralTampered');
    expect(await verdictOf(rim({ after: (text) => text.replace('</Payload>', '</Payload> ') }))).toBe('tampered CollateralTampered');
    expect(await verdictOf(rim({ after: (text) => text.replace('<Payload>', '<Payload xmlns="urn:else">') }))).toBe('tampered CollateralTampered');
  });

  it('written otherwise, but the same by Canonical XML, is still good', async () => {
    expect(await verdictOf(rim({ after: (text) => text.replace('<Resource index="0"/>', "<Resource   index = '0'></Resource>") }))).toBe('good');
    expect(
      await verdictOf(rim({ after: (text) => text.replace('colloquialVersion="1.2.3" product="GH100"', 'product="GH100" colloquialVersion="1.2.3"') })),
    ).toBe('good');
    expect(await verdictOf(rim({ body: `${BODY}\n`, after: (text) => text.replaceAll('\n', '\r\n') }))).toBe('good');
  });

  it('with the chain of another is not saved by it', async () => {
    const genuine = vector('nvidia/attestation-sdk/NV_GPU_DRIVER_GH100_550.144.03.xml').toString();
    const other = vector('nvidia/attestation-sdk/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml').toString();
    const key = /<ds:KeyInfo>.*<\/ds:KeyInfo>/s;
    const swapped = genuine.replace(key, other.match(key)?.[0] ?? '');
    expect(swapped).not.toBe(genuine);
    expect(told(await judged(Buffer.from(swapped), { at: '2026-11-23T00:00:00Z' }))).toBe('tampered CollateralTampered');
  });

  it('larger than any is refused before it is read', async () => {
    expect(await verdictOf(Buffer.from(`<a>${' '.repeat(1024 * 1024)}</a>`))).toBe('malformed LimitExceeded');
  });
});

describe('canonical XML', () => {
  // From the examples of https://www.w3.org/TR/xml-c14n11/ §3, as far as this reader reads them.
  it.each([
    ['<doc><e1   /><e2   ></e2></doc>', '<doc><e1></e1><e2></e2></doc>'],
    ['<doc><e3   name = "elem3"   id="elem3"   /></doc>', '<doc><e3 id="elem3" name="elem3"></e3></doc>'],
    [
      '<e5 a:attr="out" b:attr="sorted" attr2="all" attr="I\'m" xmlns:b="http://www.ietf.org" xmlns:a="http://www.w3.org" xmlns="http://example.org"/>',
      '<e5 xmlns="http://example.org" xmlns:a="http://www.w3.org" xmlns:b="http://www.ietf.org" attr="I\'m" attr2="all" b:attr="sorted" a:attr="out"></e5>',
    ],
    [
      '<e6 xmlns="" xmlns:a="http://www.w3.org"><e7 xmlns="http://www.ietf.org"><e8 xmlns="" xmlns:a="http://www.w3.org"><e9 xmlns="" xmlns:a="http://www.ietf.org"/></e8></e7></e6>',
      '<e6 xmlns:a="http://www.w3.org"><e7 xmlns="http://www.ietf.org"><e8 xmlns=""><e9 xmlns:a="http://www.ietf.org"></e9></e8></e7></e6>',
    ],
    ['<a b=\'say "so"\'>x > y\r\nz</a>', '<a b="say &quot;so&quot;">x &gt; y\nz</a>'],
  ])('of %s', (text, canonical) => {
    expect(canonicalXml(readXml(text))).toBe(canonical);
  });
});
