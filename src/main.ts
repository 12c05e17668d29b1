import { run } from './commands/index.ts';

await run(
  [
    { word: 'lab', summary: 'tell the story of two rotations against far sides on this machine', load: () => import('./commands/lab.ts') },
    { word: 'serve', summary: 'run the controller', load: () => import('./commands/serve.ts') },
    { word: 'proxy', summary: 'run the KBS proxy: sees every attestation and key release, enforces revocations', load: () => import('./commands/proxy.ts') },
    { word: 'migrate', summary: 'bring the database to this version', load: () => import('./commands/migrate.ts') },
    { word: 'status', summary: 'tell where every workload, rotation and document stands', load: () => import('./commands/status.ts') },
    { word: 'why', summary: 'tell why a pod, a rotation or a workload waits or was denied', load: () => import('./commands/why.ts') },
    { word: 'plan', summary: 'tell what a merge would bring about, and what would refuse it', load: () => import('./commands/plan.ts') },
    { word: 'release', summary: 'write a workload’s next release', load: () => import('./commands/release.ts') },
    { word: 'revoke', summary: 'stop trusting something, now', load: () => import('./commands/revoke.ts') },
    { word: 'hold', summary: 'stop a rotation, a workload, or everything', load: () => import('./commands/hold.ts') },
    { word: 'resume', summary: 'lift a hold', load: () => import('./commands/resume.ts') },
    { word: 'sign', summary: 'sign a document', load: () => import('./commands/sign.ts') },
    { word: 'schema', summary: 'print the JSON Schemas of the documents', load: () => import('./commands/schema.ts') },
    { word: 'receipts', summary: 'export the receipts', load: () => import('./commands/receipts.ts') },
    { word: 'collateral', summary: 'judge what vendors sign about their hardware, offline', load: () => import('./commands/collateral.ts') },
    { word: 'verify', summary: 'verify an export of receipts, offline', load: () => import('./commands/verify.ts') },
  ],
  process.argv.slice(2),
);
