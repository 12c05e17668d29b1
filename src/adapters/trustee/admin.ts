import { createPrivateKey, type KeyObject } from 'node:crypto';
import { SignJWT } from 'jose';
import type { WriteKind } from '#src/domain/kbs.ts';
import { Fault } from '#src/errors.ts';
import { millisecondsOf } from '#src/instant.ts';
import { readReference } from '#src/reference.ts';
import { Secret } from '#src/secret.ts';
import type { Clock } from '#src/world.ts';
import type { TrusteeConfig } from './config.ts';

/** Nothing is sent with a token that has less than this left: the request itself takes time, and clocks differ. */
const MARGIN_MILLISECONDS = 1000;

/** An admin token of a KBS, just made. */
export interface AdminToken extends Disposable {
  /** The Authorization header. */
  readonly header: () => string;
  /** Whether it may still be sent: a second before `exp` it may not. */
  readonly fresh: () => boolean;
}

/**
 * Makes an admin token for one kind of write (Trustee, `kbs/docs/admin.md`: a JWT whose `role` the
 * KBS's `regex_acl` knows). `exp` is the database clock's whole second plus the token's life: the KBS
 * compares whole seconds too, so it can take the token for less than life + leeway + 1. Throws
 * Fault('Unauthenticated') for a key that cannot be read or is neither Ed25519 nor P-256.
 */
export async function mintToken(name: string, config: TrusteeConfig, installation: string, kind: WriteKind, clock: Clock): Promise<AdminToken> {
  const [first] = config.admin.keys;
  if (first === undefined) throw new Fault('NotConfigured', `trustee ${name}: no admin key`);
  const key = await signingKey(name, first);
  const asked = performance.now();
  const now = millisecondsOf(await clock());
  const expires = Math.floor(now / 1000) + config.tokenSeconds;
  const jwt = new SignJWT({ role: config.admin.roles[kind] })
    .setProtectedHeader({ alg: key.asymmetricKeyType === 'ed25519' ? 'EdDSA' : 'ES256', typ: 'JWT', kid: first.id })
    .setSubject(`keyturn/${installation}`)
    .setIssuedAt(Math.floor(now / 1000))
    .setExpirationTime(expires);
  if (config.admin.issuer !== undefined) jwt.setIssuer(config.admin.issuer);
  if (config.admin.audience !== undefined) jwt.setAudience(config.admin.audience);
  const token = new Secret(Buffer.from(await jwt.sign(key)));
  return {
    header: () => `Bearer ${token.reveal().toString('ascii')}`,
    // Counted from before the clock was asked: never later than it is.
    fresh: () => now + (performance.now() - asked) < expires * 1000 - MARGIN_MILLISECONDS,
    [Symbol.dispose]: () => token[Symbol.dispose](),
  };
}

async function signingKey(name: string, from: TrusteeConfig['admin']['keys'][number]): Promise<KeyObject> {
  let key: KeyObject;
  try {
    using pem = await readReference('env' in from ? { env: from.env } : { file: from.file });
    key = createPrivateKey(pem.reveal());
  } catch (cause) {
    throw new Fault('Unauthenticated', `trustee ${name}: its admin key ${from.id} cannot be read`, { cause });
  }
  const usable = key.asymmetricKeyType === 'ed25519' || key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
  if (!usable) throw new Fault('Unauthenticated', `trustee ${name}: its admin key ${from.id} is neither Ed25519 nor on P-256`);
  return key;
}
