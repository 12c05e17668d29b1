import { admittedImages, readInitData } from './init-data.ts';
import type { Refusal } from './want.ts';

/**
 * Whether init-data binds a guest to these images: it names the KBS, and admits exactly them, each by
 * its digest, and rejects all others. Nothing else ties the image to the key: a measurement is the
 * machine's, not the workload's. `publicUrl` null: which KBS it names is not asked. null: it does. Pure.
 * Throws Fault('Malformed') for init-data that cannot be read.
 */
export function imageBinding(toml: string, images: readonly string[], publicUrl: string | null): Refusal | null {
  const { kbsUrl, imagePolicy } = readInitData(toml);
  if (publicUrl !== null && kbsUrl !== publicUrl) return unbound(`cdh.toml names the KBS ${kbsUrl ?? 'nowhere'}, not ${publicUrl}`);
  if (imagePolicy === null) return unbound('cdh.toml has no image policy');
  // What a URI names can change after it was approved.
  if (imagePolicy.kind === 'uri') return unbound('the image policy is named by URI');
  const admitted = admittedImages(imagePolicy.policy);
  if (admitted === null) return unbound('the image policy does not reject by default');
  const difference = [...new Set(admitted).symmetricDifference(new Set(images))];
  return difference.length === 0 ? null : unbound(difference.join(', '));
}

function unbound(about: string): Refusal {
  return { reason: 'ImageNotBound', about };
}
