import { z } from 'zod';

/** The `apiVersion` of every document. */
export const API_VERSION = 'keyturn.dev/v1alpha1';

/** Lists in documents: more than this is a mistake or an attack. */
export const LIST_MAX = 256;

/** An id may appear in logs and pages: short, and nothing in it needs escaping anywhere. */
export const id = z.string().regex(/^[a-z0-9-]{1,60}$/, 'expected 1 to 60 of a-z, 0-9 and -');
/** SHA-256 of a file's bytes. */
export const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'expected sha256: and 64 lower-case hexadecimal digits');
/** RFC 3339, UTC, whole seconds: one way to write it. */
export const instant = z
  .string()
  .regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'expected YYYY-MM-DDTHH:MM:SSZ')
  .refine(isOnCalendar, 'expected a day and an hour that there are');
/** A path from the repository's root, without `.` and `..`; short enough for a row's key. */
export const filePath = z
  .string()
  .max(512)
  .regex(/^(?!.*(?:^|\/)\.{1,2}(?:\/|$))[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+)*$/, 'expected a path from the repository root');
/** A file of the repository, covered by the signatures of the document that names it. */
export const file = z.strictObject({ file: filePath, digest });
/** Counts per workload or platform. */
export const serial = z.int().min(0).max(1_000_000_000);
/** Words for people. */
export const text = z.string().min(1).max(4096);
/** RFC 5280 §5.3.1, without the reasons that make no sense for us. */
export const revocationReason = z.enum([
  'unspecified',
  'keyCompromise',
  'cACompromise',
  'affiliationChanged',
  'superseded',
  'cessationOfOperation',
  'certificateHold',
  'privilegeWithdrawn',
  'aACompromise',
]);
/** A segment of a KBS path, as Trustee reads it (`ResourceDesc`); its own `[\w-]+[\w.-]*` matches one text in many ways, and backtracks for seconds. */
export const KBS_SEGMENT = '[A-Za-z0-9_-][A-Za-z0-9_.-]*';
/** A path in a KBS. */
export const kbsPath = z
  .string()
  .max(512)
  .regex(new RegExp(`^${KBS_SEGMENT}/${KBS_SEGMENT}/${KBS_SEGMENT}$`), 'expected repository/type/tag');
/** A path of others: `*` stands for one whole segment. */
export const kbsPathPattern = z
  .string()
  .max(512)
  .regex(new RegExp(`^(?:\\*|${KBS_SEGMENT})/(?:\\*|${KBS_SEGMENT})/(?:\\*|${KBS_SEGMENT})$`), 'expected repository/type/tag, * for a whole segment');
/** A name that every storage of Trustee accepts (`is_valid_key`), and that no URL or file system reads as another one. */
export const referenceValueName = z
  .string()
  .max(200)
  .regex(/^(?!.*(?:^|\/)\.{1,2}(?:\/|$))[A-Za-z0-9_./-]+$/, 'expected a reference value name');
/** What a verifier calls a machine or a device: AMD's chip id has 128 hexadecimal digits, NVIDIA's ueid fewer. */
export const deviceName = z.string().regex(/^[A-Za-z0-9._:-]{1,200}$/, 'expected a chip id or ueid');
/** One value in a verifier's own JSON type. */
export const referenceScalar = z.union([z.string().max(4096), z.number(), z.boolean()]);
/** The trusted execution environments that documents may name. */
export const tee = z.enum(['snp', 'tdx', 'az-snp-vtpm', 'az-tdx-vtpm', 'sample']);

/** The trusted execution environments that this product knows (DESIGN §2). */
export type Tee = z.infer<typeof tee>;

/** Month 13 is nowhere, and 31 February would silently be 3 March. */
function isOnCalendar(text: string): boolean {
  const milliseconds = Date.parse(text);
  return !Number.isNaN(milliseconds) && new Date(milliseconds).toISOString() === text.replace('Z', '.000Z');
}
