import { openWeights } from '#src/adapters/weights/index.ts';
import type { S3Patience } from '#src/adapters/weights/s3-wire.ts';
import type { EnvelopeWorkers } from '#src/envelope/workers.ts';
import { openLabS3 } from '#src/lab/s3.ts';
import { testFolder } from '#test/envelope/folder.ts';

// The SDK's own chain finds these first, and asks nobody else.
Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'lab', AWS_SECRET_ACCESS_KEY: 'lab', AWS_EC2_METADATA_DISABLED: 'true' });

/** A store that is waited for long: nothing of a test rests on the speed of its machine, unless it says so. */
const PATIENCE: S3Patience = { callSeconds: 60, partSeconds: 60, windowSeconds: 60, attempts: 3 };

/** Two buckets of two servers of the lab, and the production adapter over them. */
export async function openS3Stand(workers: EnvelopeWorkers, patience: Partial<S3Patience> = {}, pageMax = 3) {
  const open = (bucket: string) => openLabS3({ folder: testFolder(), bucket, pageMax });
  const labs = { one: await open('models-one'), two: await open('models-two') };
  const configOf = (name: 'one' | 'two') =>
    ({ kind: 's3', bucket: `models-${name}`, region: 'eu-central-1', endpoint: labs[name].url, guestAddress: `s3://models-${name}` }) as const;
  const configured = { one: configOf('one'), two: configOf('two') };
  const weights = openWeights(configured, workers, { ...PATIENCE, ...patience });
  const close = async (): Promise<void> => {
    await labs.one.close();
    await labs.two.close();
  };
  return { labs, configured, weights, close };
}
