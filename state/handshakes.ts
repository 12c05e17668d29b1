import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';

/** An attestation that the KBS accepted, as a proxy saw it. */
export interface HandshakeRecord {
  readonly kbs: string;
  readonly proxy: string;
  /** Of the guest, or of its pod where a named forwarder told it. */
  readonly address: string;
  /** SHA-256 of the session cookie, which is never kept itself. */
  readonly sessionDigest: string;
  /** SHA-256 of the token. */
  readonly tokenDigest: string;
  /** The EAR, as the KBS returned it. */
  readonly token: string;
  /** RFC 7638 thumbprint of the TEE public key in it. */
  readonly teeKey: string;
}

/** Keeps one; gives its id. A re-attest of the same session is kept again: the newest is what a fetch is joined to. */
export async function recordHandshake(db: Db, handshake: HandshakeRecord): Promise<number> {
  const { rows } = await db.query<{ id: number }>({
    name: 'record-handshake',
    text: `insert into handshakes (kbs, proxy, address, session_digest, token_digest, token, tee_key) values ($1, $2, $3, $4, $5, $6, $7) returning id`,
    values: [handshake.kbs, handshake.proxy, handshake.address, handshake.sessionDigest, handshake.tokenDigest, handshake.token, handshake.teeKey],
  });
  const [row] = rows;
  if (row === undefined) throw new Error('insert … returning gave no row');
  return row.id;
}

/** A handshake without its address, as a proxy needs it to judge a request that another proxy attested. */
export interface FoundHandshake {
  readonly id: number;
  readonly at: Instant;
  readonly token: string;
  readonly teeKey: string;
}

/** The newest handshake of this session or, where there is no session, of this token; null: none was recorded. */
export async function findHandshake(db: Db, kbs: string, by: { readonly session: string } | { readonly token: string }): Promise<FoundHandshake | null> {
  const [column, digest] = 'session' in by ? ['session_digest', by.session] : ['token_digest', by.token];
  const { rows } = await db.query<FoundHandshake>(
    `select id, at, token, tee_key as "teeKey" from handshakes where kbs = $1 and ${column} = $2 order by id desc limit 1`,
    [kbs, digest],
  );
  return rows[0] ?? null;
}
