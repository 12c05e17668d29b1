import type { Command } from 'commander';
import { jsonSchemas } from '#src/domain/documents/json-schemas.ts';
import { Fault } from '#src/errors.ts';

/** `keyturn schema [KIND]`: the JSON Schema of one kind of document, or of all of them by their names. */
export function register(program: Command): void {
  program
    .command('schema')
    .description('print the JSON Schemas of the documents')
    .argument('[kind]', 'Release, Platform, Trust, Baseline, Revocation, Withdrawal or Reinstatement')
    .action((kind: string | undefined) => {
      const schemas = jsonSchemas();
      const named = Object.entries(schemas).find(([name]) => name.toLowerCase() === kind?.toLowerCase());
      if (kind !== undefined && named === undefined) throw new Fault('NotFound', `no document is called ${kind}; there are ${Object.keys(schemas).join(', ')}`);
      process.stdout.write(`${JSON.stringify(named?.[1] ?? schemas, null, 2)}\n`);
    });
}
