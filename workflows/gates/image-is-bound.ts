import { imageBinding } from '#src/domain/image-binding.ts';
import { type Gate, no, yes } from '../step.ts';
import { initDataOf } from '../template.ts';

/** Every guest's init-data names its KBS, admits exactly the release's images, by digest, and rejects all others (`domain/image-binding.ts`). */
export const imageIsBound: Gate = {
  name: 'image-is-bound',
  ask: async ({ subject, world }) => {
    const released = Object.values(subject.release.images).sort();
    for (const target of subject.release.targets) {
      const refusal = imageBinding(initDataOf(subject, target), released, world.broker(target.kbs).publicUrl);
      if (refusal !== null) return no(refusal.reason, `${target.guest}: ${refusal.about}`);
    }
    return yes({ images: released });
  },
};
