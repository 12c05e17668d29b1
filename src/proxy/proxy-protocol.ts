import { BlockList, isIPv6, type Socket } from 'node:net';

/**
 * A header of the PROXY protocol, version 2 (haproxy.org, proxy-protocol.txt §2.2), at the start of
 * these bytes. `partial`: more bytes are needed. `address` null: the forwarder speaks for itself
 * (LOCAL, or no addresses), as in its health checks.
 */
export type ProxyHeader =
  | { readonly kind: 'partial' }
  | { readonly kind: 'bad' }
  | { readonly kind: 'whole'; readonly address: string | null; readonly sizeBytes: number };

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
/** Signature, version and command, family, length. Bytes. */
const FIXED_BYTES = 16;
/** Addresses and what clouds add to them (TLVs) are some hundred bytes; the field could say 64 KiB. */
const REST_MAX_BYTES = 2048;
const LOCAL = 0x20;
const PROXY = 0x21;
const UNSPECIFIED = 0x00;
const TCP_OVER_IPV4 = 0x11;
const TCP_OVER_IPV6 = 0x21;

/** Reads it. Anything that is not TCP over IP is refused: a guest that comes by datagram or by file is none. */
export function readProxyHeader(bytes: Buffer): ProxyHeader {
  const start = bytes.subarray(0, SIGNATURE.length);
  if (!start.equals(SIGNATURE.subarray(0, start.length))) return { kind: 'bad' };
  if (bytes.length < FIXED_BYTES) return { kind: 'partial' };
  const command = bytes[12];
  const family = bytes[13];
  const rest = bytes.readUInt16BE(14);
  if ((command !== LOCAL && command !== PROXY) || rest > REST_MAX_BYTES) return { kind: 'bad' };
  if (bytes.length < FIXED_BYTES + rest) return { kind: 'partial' };
  const sizeBytes = FIXED_BYTES + rest;
  if (command === LOCAL || family === UNSPECIFIED) return { kind: 'whole', address: null, sizeBytes };
  if (family === TCP_OVER_IPV4 && rest >= 12) return { kind: 'whole', address: [...bytes.subarray(16, 20)].join('.'), sizeBytes };
  if (family === TCP_OVER_IPV6 && rest >= 36) return { kind: 'whole', address: ipv6(bytes.subarray(16, 32)), sizeBytes };
  return { kind: 'bad' };
}

function ipv6(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16));
  return plainAddress(new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1));
}

/** One way to write an address: IPv4 where it is one, though it came to a socket of both kinds. */
export function plainAddress(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  const words = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/i.exec(address);
  if (words === null) return address.toLowerCase();
  const [high = 0, low = 0] = words.slice(1).map((word) => Number.parseInt(word, 16));
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

/** Whether an address lies in one of these networks (CIDR). Throws RangeError for what is no CIDR. None: no address does. */
export function networksOf(networks: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', prefix = '', more] = network.split('/');
    if (!/^\d{1,3}$/.test(prefix) || more !== undefined) throw new RangeError(`not a network: ${network}`);
    list.addSubnet(address, Number(prefix), isIPv6(address) ? 'ipv6' : 'ipv4');
  }
  return (address) => list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

/** A forwarder sends its header at once, before it knows what the guest will say. */
const HEADER_TIMEOUT_SECONDS = 5;

/**
 * Takes the header off a connection and leaves the rest unread, for whoever reads next. null: there was
 * none, or it was bad, too long or too late; the connection is closed then, since what came could be
 * taken for anybody's request.
 */
export function takeProxyHeader(socket: Socket): Promise<Extract<ProxyHeader, { kind: 'whole' }> | null> {
  return new Promise((resolve) => {
    let bytes = Buffer.alloc(0);
    const settle = (header: Extract<ProxyHeader, { kind: 'whole' }> | null): void => {
      clearTimeout(timer);
      socket.off('data', onData).off('error', onEnd).off('close', onEnd);
      socket.pause();
      if (header === null) socket.destroy();
      else if (bytes.length > header.sizeBytes) socket.unshift(bytes.subarray(header.sizeBytes));
      resolve(header);
    };
    const onData = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      const header = readProxyHeader(bytes);
      if (header.kind !== 'partial') settle(header.kind === 'whole' ? header : null);
    };
    const onEnd = (): void => settle(null);
    const timer = setTimeout(onEnd, HEADER_TIMEOUT_SECONDS * 1000);
    socket.on('data', onData).on('error', onEnd).on('close', onEnd);
  });
}
