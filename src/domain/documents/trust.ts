import { z } from 'zod';
import {
  API_VERSION,
  deviceName,
  digest,
  file,
  id,
  instant,
  kbsPath,
  LIST_MAX,
  referenceScalar,
  referenceValueName,
  revocationReason,
  serial,
  text,
} from './fields.ts';

/** Who holds a role: ids of `people`. */
const people = z.array(id).min(1).max(LIST_MAX);
/** How many of whom. */
const role = z.strictObject({ threshold: z.int().min(1).max(LIST_MAX), people });

/** `trust/<version>.yaml`: who may approve what. Thresholds count people. */
export const trustSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Trust'),
  version: z.int().min(1).max(1_000_000_000),
  expires: instant,
  people: z
    .array(
      z.strictObject({
        id,
        keys: z.array(z.string().max(4096)).max(LIST_MAX),
        identities: z
          .array(z.strictObject({ issuer: z.string().min(1).max(2048), subject: z.string().min(1).max(2048) }))
          .max(LIST_MAX)
          .optional(),
      }),
    )
    .min(1)
    .max(LIST_MAX),
  roles: z.strictObject({
    approvers: z
      .array(
        z.strictObject({
          workloads: z
            .array(z.union([id, z.literal('*')]))
            .min(1)
            .max(LIST_MAX),
          threshold: z.int().min(1).max(LIST_MAX),
          people,
        }),
      )
      .min(1)
      .max(LIST_MAX),
    platformApprovers: role,
    revokers: role,
    recoverers: role,
    administrators: role,
  }),
  trustedRoot: file.nullable().optional(),
  history: z
    .string()
    .regex(/^[0-9a-f]{40}$/, 'expected a commit: 40 lower-case hexadecimal digits')
    .nullable()
    .optional(),
});

/** What is no longer trusted. */
const subject = z.union([
  z.strictObject({ kind: z.literal('key'), path: kbsPath }),
  z.strictObject({ kind: z.literal('key'), keyId: text }),
  z.strictObject({ kind: z.literal('key'), workload: id, epoch: z.int().min(1) }),
  z.strictObject({ kind: z.literal('release'), workload: id, serial }),
  z.strictObject({ kind: z.literal('workload'), workload: id }),
  z.strictObject({ kind: z.literal('all') }),
  z.strictObject({ kind: z.literal('target'), cluster: id, namespace: z.string().regex(/^[a-z0-9-]{1,63}$/), name: text }),
  z.strictObject({ kind: z.literal('device'), chipId: deviceName }),
  z.strictObject({ kind: z.literal('device'), ueid: deviceName }),
  // A list names each of its values: one bad firmware measures otherwise on every shape of machine.
  z.strictObject({
    kind: z.literal('reference-value'),
    name: referenceValueName,
    value: z.union([referenceScalar, z.array(referenceScalar).min(1).max(LIST_MAX)]),
  }),
  z.strictObject({ kind: z.literal('signer'), person: id, key: digest.optional(), since: instant.optional() }),
]);

/** `revocations/<id>.yaml`: stop trusting something, now. */
export const revocationSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Revocation'),
  id,
  subject,
  reason: revocationReason,
  why: text,
  evict: z.boolean(),
  destroy: z.boolean(),
  recovery: text,
});

/** `withdrawals/<id>.yaml`: take a release back while there is one to fall back to. */
export const withdrawalSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Withdrawal'),
  id,
  workload: id,
  release: digest,
  why: text,
});

/** `reinstatements/<id>.yaml`: lifts a suspension. */
export const reinstatementSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Reinstatement'),
  id,
  revocation: id,
  justification: text,
});

/** A trust document as written. */
export type TrustDocument = z.infer<typeof trustSchema>;
/** A revocation as written. */
export type RevocationDocument = z.infer<typeof revocationSchema>;
/** A revocation's `subject`. */
export type RevocationSubject = z.infer<typeof subject>;
/** A withdrawal as written. */
export type WithdrawalDocument = z.infer<typeof withdrawalSchema>;
/** A reinstatement as written. */
export type ReinstatementDocument = z.infer<typeof reinstatementSchema>;
