import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { admittedImages, initDataAnnotation, initDataClaim, readInitData, sameInitData } from '#src/domain/init-data.ts';
import { initDataOf, reasonOf } from './want-parts.ts';

/** Recorded from trustee 78962cd…, 06-rcar-init-data: this text was attested, and this claim stood in the token. */
const RECORDED = `version = "0.1.0"
algorithm = "sha384"

[data]
"aa.toml" = '''
[token_configs.kbs]
url = "http://kbs.example.test:8080"
'''
"cdh.toml" = '''
[kbc]
name = "cc_kbc"
url = "http://kbs.example.test:8080"
'''
"policy.rego" = '''
package agent_policy
default AllowRequestsFailingPolicy := false
policy_data := {"containers": [{"OCI": {"Annotations": {"io.kubernetes.cri.image-name": "registry.example.test/llm@sha256:aa"}, "Process": {"User": {"UID": 1000}}}}]}
'''
"workload.id" = "llama3-serving"
`;
const RECORDED_CLAIM = 'HipL4aGnmksGjsQxJf5Gg5Ay8NrNu6/acJCypX9s6qqC2u+AzSeuGoWZ2Obc3nBS';

const IMAGE = `registry.example/chat@sha256:${'4'.repeat(64)}`;
const ACCEPT = [{ type: 'insecureAcceptAnything' }];
const REJECT = [{ type: 'reject' }];

function withHub(hub: string): string {
  return `version = "0.1.0"\nalgorithm = "sha256"\n[data]\n"cdh.toml" = '''\n${hub}\n'''\n`;
}

describe('the claim of init-data', () => {
  it('is what a real verifier wrote into its token', () => {
    expect(initDataClaim(RECORDED, 'sample')).toBe(RECORDED_CLAIM);
  });

  it.each([
    ['sha256', 'snp', 64, 0],
    ['sha384', 'snp', 64, 0],
    ['sha512', 'snp', 64, 0],
    ['sha256', 'tdx', 64, 32],
    ['sha384', 'tdx', 96, 0],
    ['sha512', 'tdx', 96, 0],
  ] as const)('of %s on %s is cut to %i digits and filled with %i zeros', (algorithm, tee, digits, zeros) => {
    const toml = initDataOf('x', algorithm);
    const digest = createHash(algorithm).update(toml).digest('hex');
    expect(initDataClaim(toml, tee)).toBe(digest.slice(0, digits) + '0'.repeat(zeros));
  });

  it('is not known of a TEE that is not in the table', () => {
    expect(reasonOf(() => initDataClaim(RECORDED, 'az-tdx-vtpm'))).toBe('NotSupportedYet');
  });
});

describe('init-data', () => {
  it('tells where the KBS is, and that any image may be pulled', () => {
    expect(readInitData(RECORDED)).toMatchObject({ algorithm: 'sha384', kbsUrl: 'http://kbs.example.test:8080', imagePolicy: null });
  });

  it('tells an inline image policy, and a URI before it', () => {
    const inline = `[image]\nimage_security_policy = "{\\"default\\":[]}"`;
    expect(readInitData(withHub(inline)).imagePolicy).toEqual({ kind: 'inline', policy: { default: [] } });
    const both = `${inline}\nimage_security_policy_uri = "kbs:///default/security-policy/test"`;
    expect(readInitData(withHub(both)).imagePolicy).toEqual({ kind: 'uri', uri: 'kbs:///default/security-policy/test' });
  });

  it.each([
    ['no TOML', 'x = '],
    ['an algorithm that verifiers do not know', 'version = "0.1.0"\nalgorithm = "md5"\n[data]\n'],
    ['no version', 'algorithm = "sha256"\n[data]\n'],
    ['data that are no texts', 'version = "0.1.0"\nalgorithm = "sha256"\n[data]\na = 1\n'],
    ['a cdh.toml that is no TOML', withHub('x = ')],
    ['an image policy that is no JSON', withHub('[image]\nimage_security_policy = "x"')],
    ['a section that a guest may read and we would not', withHub('[Image]\nimage_security_policy_uri = "file:///x"')],
    ['a name that a guest may read and we would not', withHub('[image]\nIMAGE_security_policy_uri = "file:///x"')],
    ['more than fits anywhere', withHub(`# ${'x'.repeat(1024 * 1024)}`)],
  ])('with %s is refused', (_, toml) => {
    expect(reasonOf(() => readInitData(toml))).toBe('Malformed');
  });

  it('is the same in an annotation however it was packed, and not another', () => {
    const toml = initDataOf('x');
    expect(sameInitData(initDataAnnotation(toml), toml)).toBe(true);
    expect(sameInitData(gzipSync(toml, { level: 0 }).toString('base64'), toml)).toBe(true);
    expect(sameInitData(initDataAnnotation(`${toml}\n`), toml)).toBe(false);
    expect(sameInitData('nonsense', toml)).toBe(false);
    const bomb = 'x'.repeat(8 * 1024 * 1024);
    expect(sameInitData(initDataAnnotation(bomb), bomb)).toBe(false);
  });
});

describe('an image policy', () => {
  it('admits what it names by digest, where it rejects everything else', () => {
    expect(admittedImages({ default: REJECT, transports: { docker: { [`z${IMAGE}`]: ACCEPT, [IMAGE]: ACCEPT } } })).toEqual([IMAGE, `z${IMAGE}`]);
    expect(admittedImages({ default: REJECT, transports: { docker: {} } })).toEqual([]);
  });

  it.each([
    ['accepts by default', { default: ACCEPT, transports: { docker: { [IMAGE]: ACCEPT } } }],
    ['has no default', { transports: { docker: { [IMAGE]: ACCEPT } } }],
    ['rejects and accepts by default', { default: [...REJECT, ...ACCEPT], transports: { docker: { [IMAGE]: ACCEPT } } }],
    ['accepts every image of its transport', { default: REJECT, transports: { docker: { '': ACCEPT } } }],
    ['accepts a repository', { default: REJECT, transports: { docker: { 'registry.example/chat': ACCEPT } } }],
    ['accepts a tag', { default: REJECT, transports: { docker: { 'registry.example/chat:v1': ACCEPT } } }],
    ['accepts a wildcard', { default: REJECT, transports: { docker: { '*.example': ACCEPT } } }],
    ['has another transport', { default: REJECT, transports: { docker: { [IMAGE]: ACCEPT }, dir: {} } }],
    ['asks for more than the digest', { default: REJECT, transports: { docker: { [IMAGE]: [{ type: 'sigstoreSigned', keyPath: '/k' }] } } }],
    ['rejects an image', { default: REJECT, transports: { docker: { [IMAGE]: REJECT } } }],
    ['asks nothing of an image', { default: REJECT, transports: { docker: { [IMAGE]: [] } } }],
    ['holds a field that nobody knows', { default: REJECT, transports: { docker: {} }, more: {} }],
    ['is a list', []],
    ['is null', null],
  ])('that %s cannot be told', (_, policy) => {
    expect(admittedImages(policy)).toBeNull();
  });
});
