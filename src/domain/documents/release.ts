import { z } from 'zod';
import { API_VERSION, digest, file, id, instant, kbsPath, kbsPathPattern, LIST_MAX, referenceScalar, referenceValueName, serial, tee } from './fields.ts';

/** Where the weights come from, and how they are sealed. */
const artifact = z.strictObject({
  source: z.enum(['plaintext', 'reencrypt', 'keep', 'provided', 'running']),
  from: serial.nullable(),
  address: z.string().max(2048).nullable(),
  keyPath: kbsPath.nullable(),
  plaintextManifest: digest.nullable(),
  stores: z.array(id).max(LIST_MAX),
  codec: z.enum(['tink-aes256-gcm-hkdf-1mb', 'kserve-jwe']),
  format: z.string().min(1).max(60),
});

/** A confidential machine that may have the key. */
const guest = z.strictObject({
  tee,
  platform: id.optional(),
  runtimeClass: z.string().regex(/^[a-z0-9.-]{1,253}$/),
  devices: z.strictObject({ gpu: z.int().min(0).max(64), switch: z.int().min(0).max(64) }),
  initData: file,
  referenceValues: z.record(referenceValueName, z.array(referenceScalar).min(1).max(LIST_MAX)),
  kbsResources: z.array(kbsPath).max(LIST_MAX),
});

/** A workload object in a cluster, and the fields to set in it. */
const target = z.strictObject({
  cluster: id,
  namespace: z.string().regex(/^[a-z0-9-]{1,63}$/),
  apiVersion: z.string().regex(/^[a-z0-9.]+(?:\/[a-z0-9]+)?$/),
  kind: z.enum(['Deployment', 'StatefulSet', 'LeaderWorkerSet', 'NIMService', 'InferenceService', 'LLMInferenceService']),
  name: z.string().regex(/^[a-z0-9.-]{1,253}$/),
  guest: id,
  kbs: id,
  store: id,
  minimumAttested: z.int().min(1).max(100_000),
  retireWithoutSeconds: z.int().min(1).nullable().optional(),
  set: z.record(z.string().regex(/^(?:\/[^/]+)+$/, 'expected a JSON Pointer'), z.string().max(4096)),
});

/** `releases/<workload>/<serial>.yaml`: what should run, and under what conditions. The example says what each field means. */
export const releaseSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Release'),
  workload: id,
  serial,
  previous: digest.nullable(),
  expires: instant,
  artifact,
  images: z.record(
    id,
    z
      .string()
      .max(1024)
      .regex(/^[^@\s]+@sha256:[0-9a-f]{64}$/, 'expected an image by digest'),
  ),
  guests: z.record(id, guest),
  targets: z.array(target).min(1).max(LIST_MAX),
  key: z.strictObject({
    store: id,
    rotateAfterDays: z.int().min(1).max(3650).nullable(),
    rotateBy: z.enum(['reencrypt', 'rewrap']),
    destroyAfterDays: z.int().min(1).max(3650).nullable(),
  }),
  rollout: z.strictObject({
    mode: z.enum(['patch', 'propose']),
    batch: z.int().min(1).max(10_000),
    deadlineSeconds: z.int().min(1).max(31_536_000),
    soakSeconds: z.int().min(0).max(31_536_000),
    keepPreviousSeconds: z.int().min(0).max(31_536_000),
    attestation: z.strictObject({ source: z.enum(['proxy', 'check-in', 'counted']), maxAgeSeconds: z.int().min(1).max(86_400) }),
  }),
});

/** `platforms/<id>/<serial>.yaml`: what the machines are. */
export const platformSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Platform'),
  id,
  serial,
  previous: digest.nullable(),
  tee,
  referenceValues: z.record(referenceValueName, z.array(referenceScalar).min(1).max(LIST_MAX)),
});

/** What another team's guest must be to fetch paths outside our repository. */
const foreignGrant = z.strictObject({
  paths: z.array(kbsPathPattern).min(1).max(LIST_MAX),
  tee: z.union([tee, z.literal('any')]),
  status: z.enum(['affirming', 'any']),
  initData: z.array(z.string().min(1).max(512)).max(LIST_MAX),
  claims: z.record(z.string().regex(/^(?:\/[^/]+)+$/, 'expected a JSON Pointer'), referenceScalar),
});

/** `baseline/<kbs>/<version>.yaml`: what else lives in a KBS, and the permission to write it whole. */
export const baselineSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Baseline'),
  kbs: id,
  version: z.int().min(1).max(1_000_000_000),
  takeover: z.boolean(),
  referenceValues: z.record(referenceValueName, z.union([referenceScalar, z.array(referenceScalar).min(1).max(LIST_MAX)])),
  attestationPolicies: z.partialRecord(z.enum(['default_cpu', 'default_gpu']), file).optional(),
  grants: z.array(foreignGrant).max(LIST_MAX),
});

/** A release as written: nobody has checked its signatures yet. */
export type ReleaseDocument = z.infer<typeof releaseSchema>;
/** One entry of a release's `guests`. */
export type GuestDocument = z.infer<typeof guest>;
/** One entry of a release's `targets`. */
export type TargetDocument = z.infer<typeof target>;
/** A platform as written. */
export type PlatformDocument = z.infer<typeof platformSchema>;
/** A baseline as written. */
export type BaselineDocument = z.infer<typeof baselineSchema>;
/** One entry of a baseline's `grants`. */
export type ForeignGrant = z.infer<typeof foreignGrant>;
