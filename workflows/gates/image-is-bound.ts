import { admittedImages, readInitData } from '#src/domain/init-data.ts';
import { type Gate, no, yes } from '../step.ts';
import { initDataOf } from '../template.ts';

/**
 * Every guest's init-data admits exactly the release's images, by digest, and rejects all others.
 * Nothing else ties the image to the key: a measurement is the machine's, not the workload's.
 */
export const imageIsBound: Gate = {
  name: 'image-is-bound',
  ask: async ({ subject, world }) => {
    const released = Object.values(subject.release.images).sort();
    for (const target of subject.release.targets) {
      const initData = readInitData(initDataOf(subject, target));
      const { publicUrl } = world.broker(target.kbs);
      if (initData.kbsUrl !== publicUrl)
        return no('ImageNotBound', `${target.guest}: cdh.toml names the KBS ${initData.kbsUrl ?? 'nowhere'}, not ${publicUrl}`);
      if (initData.imagePolicy === null) return no('ImageNotBound', `${target.guest}: cdh.toml has no image policy`);
      // What a URI names can change after it was approved.
      if (initData.imagePolicy.kind === 'uri') return no('ImageNotBound', `${target.guest}: the image policy is named by URI`);
      const admitted = admittedImages(initData.imagePolicy.policy);
      if (admitted === null) return no('ImageNotBound', `${target.guest}: the image policy does not reject by default`);
      const difference = [...new Set(admitted).symmetricDifference(new Set(released))];
      if (difference.length > 0) return no('ImageNotBound', `${target.guest}: ${difference.join(', ')}`);
    }
    return yes({ images: released });
  },
};
