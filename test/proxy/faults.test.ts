import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { expect, test, vi } from 'vitest';
import { issue, makeAuthority } from '#src/lab/certificates.ts';
import { openDatabase } from '#state/database.ts';
import { fetchesOf } from '#state/fetches.ts';
import { withDatabase } from '#test/postgres.ts';
import { openBroker, openGuest, openLine, openTestProxy, speak, until } from './stand.ts';

const PATH = 'eu/chat/s1-v1-0-00000000';
const URL_OF_PATH = `/kbs/v0/resource/${PATH}`;

test('where the deny-list cannot be confirmed in time every key is refused, and passes again when it can', async () => {
  await withDatabase(async (pool, url) => {
    const line = await openLine(url);
    const far = openDatabase({ url: line.url, poolSize: 5 });
    const broker = await openBroker();
    broker.released.add(URL_OF_PATH);
    const proxy = await openTestProxy(far, broker, { denyListStaleSeconds: 2 });
    const guest = openGuest(proxy.url);
    const { cookie } = await guest.attest();
    expect((await guest.ask('GET', URL_OF_PATH, { cookie })).status).toBe(200);
    line.cut();
    await until(() => !proxy.isOpen());
    const asked = broker.reached.length;
    const told = await guest.ask('GET', URL_OF_PATH, { cookie });
    expect(told).toMatchObject({ status: 503, type: 'DenyListStale' });
    expect(told.headers['content-type']).toBeUndefined();
    expect(broker.reached).toHaveLength(asked);
    line.mend();
    await until(async () => (await guest.ask('GET', URL_OF_PATH, { cookie })).status === 200);
    expect((await fetchesOf(pool, 'main', PATH, null)).map(({ decision }) => decision)).toContain('released');
    await guest.close();
    await proxy.close();
    await far.end();
    await line.close();
    await broker.close();
  });
});

test('a release or an attestation that cannot be recorded is not given, and a KBS that is gone is said', async () => {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    broker.released.add(URL_OF_PATH);
    const proxy = await openTestProxy(pool, broker);
    const guest = openGuest(proxy.url);
    const { cookie } = await guest.attest();
    await pool.query('alter table fetches rename to gone');
    expect(await guest.ask('GET', URL_OF_PATH, { cookie })).toMatchObject({ status: 503, type: 'NotRecorded' });
    await pool.query('alter table gone rename to fetches');
    expect((await guest.ask('GET', URL_OF_PATH, { cookie })).status).toBe(200);
    await pool.query('alter table handshakes rename to gone');
    expect((await guest.attest()).told).toMatchObject({ status: 503, type: 'NotRecorded' });
    await pool.query('alter table gone rename to handshakes');
    expect((await guest.attest()).told.status).toBe(200);
    await broker.close();
    expect(await guest.ask('GET', URL_OF_PATH, { cookie })).toMatchObject({ status: 502, type: 'BrokerUnreachable' });
    await guest.close();
    await proxy.close();
  });
});

test('a token of 200 KiB passes in a header, 300 KiB does not; a body beyond the limit, or without a length, is refused unread', async () => {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    broker.released.add(URL_OF_PATH);
    const proxy = await openTestProxy(pool, broker);
    const guest = openGuest(proxy.url);
    expect((await guest.ask('GET', URL_OF_PATH, { authorization: `Bearer ${'a'.repeat(200 * 1024)}` })).status).toBe(200);
    const reached = broker.reached.length;
    expect((await guest.ask('GET', URL_OF_PATH, { authorization: `Bearer ${'a'.repeat(300 * 1024)}` })).status).toBe(431);
    expect(await speak(proxy.url, [`POST /kbs/v0/attest HTTP/1.1\r\nhost: kbs\r\ncontent-length: ${17 * 1024 * 1024}\r\n\r\nx`])).toMatch(/^HTTP\/1.1 413 /);
    expect(await speak(proxy.url, ['POST /kbs/v0/attest HTTP/1.1\r\nhost: kbs\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n'])).toMatch(/^HTTP\/1.1 411 /);
    expect(broker.reached).toHaveLength(reached);
    await guest.close();
    await proxy.close();
    await broker.close();
  });
});

// ---------------------------------------------------------------- forwarders

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
const header = (command: number, family: number, rest: Buffer): Buffer => {
  const fixed = Buffer.from([command, family, 0, 0]);
  fixed.writeUInt16BE(rest.length, 2);
  return Buffer.concat([SIGNATURE, fixed, rest]);
};
/** From 10.9.8.7:4000 to 10.0.0.1:443, and a TLV that nobody asked for. */
const FROM_POD = header(0x21, 0x11, Buffer.from('0a0908070a0000010fa001bb04000400000000', 'hex'));
/** From 2001:db8::5. */
const FROM_POD_V6 = header(
  0x21,
  0x21,
  Buffer.concat([Buffer.from('20010db8000000000000000000000005', 'hex'), Buffer.alloc(16), Buffer.from('0fa001bb', 'hex')]),
);
const LOCAL = header(0x20, 0x00, Buffer.alloc(0));
const GET = `GET ${URL_OF_PATH} HTTP/1.1\r\nhost: kbs\r\nauthorization: Bearer a.b.c\r\nconnection: close\r\n\r\n`;

test('a PROXY header tells the guest’s address, from a named forwarder and from nobody else', async () => {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    broker.released.add(URL_OF_PATH);
    const proxy = await openTestProxy(pool, broker, { proxyProtocolFrom: ['127.0.9.0/24'] });
    const addresses = async (): Promise<string[]> => (await fetchesOf(pool, 'main', PATH, null)).map(({ address }) => address);
    expect(await speak(proxy.url, [Buffer.concat([FROM_POD, Buffer.from(GET)])], '127.0.9.1')).toMatch(/^HTTP\/1.1 200 /);
    expect(
      await speak(proxy.url, [FROM_POD.subarray(0, 5), FROM_POD.subarray(5, 20), FROM_POD.subarray(20), GET.slice(0, 30), GET.slice(30)], '127.0.9.1'),
    ).toMatch(/^HTTP\/1.1 200 /);
    expect(await speak(proxy.url, [FROM_POD_V6, GET], '127.0.9.1')).toMatch(/^HTTP\/1.1 200 /);
    expect(await speak(proxy.url, [LOCAL, GET], '127.0.9.2')).toMatch(/^HTTP\/1.1 200 /);
    expect(await speak(proxy.url, [GET], '127.64.0.1')).toMatch(/^HTTP\/1.1 200 /);
    expect(await addresses()).toEqual(['10.9.8.7', '10.9.8.7', '2001:db8::5', '127.0.9.2', '127.64.0.1']);
    const reached = broker.reached.length;
    expect(await speak(proxy.url, [FROM_POD, GET], '127.64.0.1')).toMatch(/^HTTP\/1.1 400 /);
    expect(await speak(proxy.url, [GET], '127.0.9.1')).toBe('');
    expect(await speak(proxy.url, [header(0x21, 0x11, Buffer.alloc(4)), GET], '127.0.9.1')).toBe('');
    expect(await speak(proxy.url, [header(0x21, 0x31, Buffer.alloc(216)), GET], '127.0.9.1')).toBe('');
    expect(await speak(proxy.url, [header(0x21, 0x11, Buffer.alloc(3000)), GET], '127.0.9.1')).toBe('');
    expect(broker.reached).toHaveLength(reached);
    await proxy.close();
    await broker.close();
  });
});

/** Files of a certificate for 127.0.0.1, as a mounted secret. */
async function certificateIn(
  folder: string,
  authority: Awaited<ReturnType<typeof makeAuthority>>,
  commonName: string,
): Promise<{ certificate: { file: string }; key: { file: string } }> {
  const served = await issue(authority, { commonName, names: ['127.0.0.1'] });
  const [certificate, key] = [join(folder, 'tls.crt'), join(folder, 'tls.key')];
  await Promise.all([writeFile(certificate, served.certificatePem), writeFile(key, served.keyPem)]);
  return { certificate: { file: certificate }, key: { file: key } };
}

/** One TLS connection with these bytes in front of it; what came back, and who was there. */
async function speakTls(url: string, ca: string, before: Buffer | null, from: string): Promise<{ readonly came: string; readonly subject: string }> {
  const raw = connect({ host: '127.0.0.1', port: Number(new URL(url).port), localAddress: from });
  if (before !== null) raw.write(before);
  const secured = connectTls({ socket: raw, ca, host: '127.0.0.1' });
  await once(secured, 'secureConnect');
  const subject = String(secured.getPeerCertificate().subject.CN);
  secured.write(GET);
  let came = '';
  for await (const chunk of secured) came += String(chunk);
  return { came, subject };
}

test('over TLS the PROXY header comes first, and a certificate that was replaced is served after a minute', async () => {
  await withDatabase(async (pool) => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    const folder = await mkdtemp(join(tmpdir(), 'keyturn-proxy-'));
    const authority = await makeAuthority('test CA');
    const ca = authority.certificatePem;
    const broker = await openBroker();
    broker.released.add(URL_OF_PATH);
    const proxy = await openTestProxy(pool, broker, { tls: await certificateIn(folder, authority, 'first'), proxyProtocolFrom: ['127.0.9.1/32'] });
    expect(proxy.url).toMatch(/^https:/);
    expect(await speakTls(proxy.url, ca, FROM_POD, '127.0.9.1')).toEqual({ came: expect.stringMatching(/^HTTP\/1.1 200 /), subject: 'first' });
    expect((await fetchesOf(pool, 'main', PATH, null)).map(({ address }) => address)).toEqual(['10.9.8.7']);
    await certificateIn(folder, authority, 'second');
    expect((await speakTls(proxy.url, ca, null, '127.64.0.1')).subject).toBe('first');
    vi.advanceTimersByTime(60_000);
    await until(async () => (await speakTls(proxy.url, ca, null, '127.64.0.1')).subject === 'second');
    await writeFile(join(folder, 'tls.crt'), 'no certificate');
    vi.advanceTimersByTime(60_000);
    await until(() => proxy.lines.some((line) => line.includes('the one before is used')));
    expect((await speakTls(proxy.url, ca, null, '127.64.0.1')).subject).toBe('second');
    vi.useRealTimers();
    await proxy.close();
    await broker.close();
    await rm(folder, { recursive: true });
  });
});

test('where replicas share nothing a guest stays with one, and guests are spread', async () => {
  await withDatabase(async (pool) => {
    const brokers = await Promise.all([openBroker(), openBroker()]);
    for (const broker of brokers) broker.released.add(URL_OF_PATH);
    const kbs = { name: 'main', url: 'http://127.0.0.1:1', replicas: brokers.map(({ url }) => url), certificateAuthority: null };
    const proxy = await openTestProxy(pool, { url: '' }, { kbs });
    for (let host = 1; host <= 12; host++) {
      const guest = openGuest(proxy.url, `127.64.0.${host}`);
      const { cookie } = await guest.attest();
      expect((await guest.ask('GET', URL_OF_PATH, { cookie })).status).toBe(200);
      await guest.close();
    }
    for (const broker of brokers) expect(broker.reached.length).toBeGreaterThan(0);
    await proxy.close();
    await Promise.all(brokers.map((broker) => broker.close()));
  });
});

test('an address in use is a Fault, and leaves no proxy behind in the rows', async () => {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    const listen = new URL(broker.url).host;
    await expect(openTestProxy(pool, broker, { listen })).rejects.toMatchObject({ reason: 'Conflict' });
    expect((await pool.query('select 1 from proxies')).rowCount).toBe(0);
    await broker.close();
  });
});
