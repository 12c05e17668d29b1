import { z } from 'zod';
import { reference } from '#src/reference.ts';

/** `https`, or `http` to this machine itself (the lab); without credentials, which have a place of their own. */
function isGitUrl(text: string): boolean {
  const url = URL.parse(text);
  if (url === null || url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') return false;
  const isLocal = url.hostname === '127.0.0.1' || url.hostname === 'localhost' || url.hostname === '[::1]';
  return url.protocol === 'https:' || (url.protocol === 'http:' && isLocal);
}

/** `repository` in keyturn.yaml: the watched branch. */
export const gitConfig = z.strictObject({
  /** Where the repository is served over smart HTTP. */
  url: z.string().max(2048).refine(isGitUrl, 'expected an https URL without credentials'),
  /** Only this branch is read: never a tag, never a pull request's ref. */
  branch: z.string().regex(/^(?!.*(?:\.\.|\/\/|\/\.|\.lock(?:\/|$)))[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}(?<![./])$/, 'expected the name of a branch'),
  /** HTTP basic authentication; null or absent: none. */
  credentials: z.strictObject({ username: z.string().min(1).max(256), password: reference }).optional(),
  /** Seconds between two looks. A webhook makes it look sooner. */
  pollSeconds: z.int().min(1).max(3600).default(30),
  /** HMAC-SHA-256 over the raw body. Without it there is no webhook. */
  webhook: z.strictObject({ secret: reference }).optional(),
});

/** `repository` as it was read. */
export type GitConfig = z.infer<typeof gitConfig>;
