import { generateKeyPairSync } from 'node:crypto';
import { exportJWK, SignJWT } from 'jose';
import { NOT_FOUND, openService, type Service } from './sigstore-http.ts';

/** Whom the tokens are for: Fulcio's own name, whoever runs it. */
export const AUDIENCE = 'sigstore';
/** As long as those of a CI system's job. Seconds. */
const TOKEN_SECONDS = 600;

/**
 * An OpenID Connect issuer that believes whoever asks: `POST /token` with a form `username=…` gives an identity
 * token of that subject. An address is vouched for as an e-mail, anything else as a subject alone.
 */
export function openLabIssuer(clock: () => Promise<number>): Promise<Service> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return openService(async ({ route, body }, url) => {
    switch (route) {
      case 'GET /.well-known/openid-configuration':
        return {
          status: 200,
          body: { issuer: url, jwks_uri: `${url}/keys`, token_endpoint: `${url}/token`, id_token_signing_alg_values_supported: ['ES256'] },
        };
      case 'GET /keys':
        return { status: 200, body: { keys: [{ ...(await exportJWK(publicKey)), alg: 'ES256', use: 'sig' }] } };
      case 'POST /token': {
        const subject = new URLSearchParams(body.toString()).get('username') ?? '';
        if (subject === '') throw new Error('username is missing');
        const now = Math.floor((await clock()) / 1000);
        const email = subject.includes('@') ? { email: subject, email_verified: true } : {};
        const token = new SignJWT(email).setProtectedHeader({ alg: 'ES256' }).setIssuer(url).setSubject(subject).setAudience(AUDIENCE);
        const signed = await token
          .setIssuedAt(now)
          .setExpirationTime(now + TOKEN_SECONDS)
          .sign(privateKey);
        return { status: 200, body: { id_token: signed, token_type: 'Bearer', expires_in: TOKEN_SECONDS } };
      }
      default:
        return NOT_FOUND;
    }
  });
}
