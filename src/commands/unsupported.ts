import type { Config } from '#src/config.ts';
import { Fault } from '#src/errors.ts';

/**
 * Refuses a configuration that asks for what this version cannot do yet: a setting that is understood
 * and then not carried out would be a promise. Throws Fault('NotSupportedYet') naming each, one a line.
 */
export function refuseUnsupported(file: string, config: Config): void {
  const settings = [
    ...Object.entries(config.keyStores).flatMap(([name, { kind }]) =>
      kind === 'aws-kms' || kind === 'azure-key-vault' ? [] : [`keyStores.${name}.kind: ${kind}`],
    ),
    ...(config.trust.unsignedRevocations === 'suspend' ? ['trust.unsignedRevocations: suspend'] : []),
  ];
  if (settings.length > 0) throw new Fault('NotSupportedYet', settings.map((setting) => `${file}: ${setting}: this version cannot do that yet`).join('\n'));
}
