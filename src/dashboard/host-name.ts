/** An address, or a name that resolves to this machine whatever a name server says (RFC 6761 §6.3). */
const OWN = /^(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]+\]|(?:[a-z0-9-]+\.)*localhost)\.?(?::\d{1,5})?$/i;
const LOOPBACK = /^(?:127\.|localhost:|\[::1\]:)/;

/**
 * Whether a request's Host may be answered. At a loopback address, nobody has to log in because nobody else gets there; but a
 * page that a person opens elsewhere can have its own name resolve to 127.0.0.1 and read what is here as its own (DNS
 * rebinding). It cannot do so under an address or `localhost`. What listens elsewhere stands behind something that looks.
 */
export function isOwnName(host: string, listen: string): boolean {
  return !LOOPBACK.test(listen) || OWN.test(host);
}
