import { createPrivateKey, sign, verify, X509Certificate } from 'node:crypto';
import { createServer, request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { issue, type KeyedCertificate, makeAuthority } from '#src/lab/certificates.ts';

/** Serves one HTTPS answer with a certificate on loopback, and calls it by a name, trusting one authority. Resolves with the status or the TLS error's code. */
async function call(served: KeyedCertificate, authority: KeyedCertificate, name: string): Promise<number | string> {
  const server = createServer({ cert: served.certificatePem, key: served.keyPem }, (_, response) => response.end('here'));
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  const outcome = await new Promise<number | string>((done) => {
    const call = request({ host: '127.0.0.1', port, servername: name === '127.0.0.1' ? '' : name, ca: authority.certificatePem, agent: false }, (response) => {
      response.resume();
      done(response.statusCode ?? 0);
    });
    call.on('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message));
    call.end();
  });
  await new Promise((done) => server.close(done));
  return outcome;
}

test('a server with an issued certificate is trusted under its names and its authority, and under no others', async () => {
  const authority = await makeAuthority('lab one');
  const other = await makeAuthority('lab one');
  const served = await issue(authority, { commonName: 'kube-apiserver', names: ['localhost', '127.0.0.1'] });
  expect(await call(served, authority, 'localhost')).toBe(200);
  expect(await call(served, authority, '127.0.0.1')).toBe(200);
  expect(await call(served, other, 'localhost')).not.toBe(200);
  const elsewhere = await issue(authority, { commonName: 'kube-apiserver', names: ['elsewhere.example', '127.0.0.2'] });
  expect(await call(elsewhere, authority, 'localhost')).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
  expect(await call(elsewhere, authority, '127.0.0.1')).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
});

test('a certificate chains to its authority, says what it is for, and goes with its key', async () => {
  const authority = await makeAuthority('token signers');
  const signer = await issue(authority, { commonName: 'attestation-service', names: [] });
  const root = new X509Certificate(authority.certificatePem);
  const leaf = new X509Certificate(signer.certificatePem);
  expect(root.ca).toBe(true);
  expect(leaf.ca).toBe(false);
  expect(leaf.checkIssued(root)).toBe(true);
  expect(leaf.verify(root.publicKey)).toBe(true);
  expect(leaf.checkPrivateKey(createPrivateKey(signer.keyPem))).toBe(true);
  const bytes = Buffer.from('a token');
  expect(verify('sha256', bytes, leaf.publicKey, sign('sha256', bytes, signer.keyPem))).toBe(true);
  expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
  const client = await issue(authority, { commonName: 'client', names: [], client: true });
  expect(new X509Certificate(client.certificatePem).keyUsage).toEqual(['1.3.6.1.5.5.7.3.2']);
});

test('names that would need escaping are refused', async () => {
  await expect(makeAuthority('a,CN=b')).rejects.toThrow(RangeError);
  const authority = await makeAuthority('plain');
  await expect(issue(authority, { commonName: 'a', names: ['::1'] })).rejects.toThrow(RangeError);
});
