import { describe, expect, test } from 'vitest';
import { ownersOf, patchOf, readPointer } from '#src/domain/pointer.ts';

const INIT_DATA = 'io.katacontainers.config.hypervisor.cc_init_data';
const deployment = {
  metadata: { annotations: { 'keyturn.dev/target': 'r-0000000000000001' } },
  spec: {
    replicas: 3,
    template: {
      metadata: { annotations: { [INIT_DATA]: 'old' } },
      spec: {
        containers: [
          { name: 'sidecar', image: 'sidecar@sha256:1' },
          {
            name: 'chat',
            image: 'chat@sha256:1',
            env: [{ name: 'KEY_URI', value: 'kbs:///a/b/c' }],
            ports: [{ name: 'web', containerPort: 80, protocol: 'TCP' }],
          },
        ],
      },
    },
  },
};
const CHAT = '/spec/template/spec/containers/name=chat';

describe('readPointer', () => {
  // RFC 6901 §5, the members that need no index.
  const example = { foo: ['bar', 'baz'], '': 0, 'a/b': 1, 'c%d': 2, 'e^f': 3, 'g|h': 4, 'i\\j': 5, 'k"l': 6, ' ': 7, 'm~n': 8 };
  test.each([
    ['', example],
    ['/foo', ['bar', 'baz']],
    ['/', 0],
    ['/a~1b', 1],
    ['/c%d', 2],
    ['/e^f', 3],
    ['/g|h', 4],
    ['/i\\j', 5],
    ['/k"l', 6],
    ['/ ', 7],
    ['/m~0n', 8],
  ])('reads %j of the example of RFC 6901', (pointer, value) => {
    expect(readPointer(example, pointer)).toEqual(value);
  });

  test('finds elements of lists by their names, and annotation keys with dots and slashes', () => {
    expect(readPointer(deployment, `${CHAT}/env/name=KEY_URI/value`)).toBe('kbs:///a/b/c');
    expect(readPointer(deployment, `/spec/template/metadata/annotations/${INIT_DATA}`)).toBe('old');
    expect(readPointer(deployment, '/metadata/annotations/keyturn.dev~1target')).toBe('r-0000000000000001');
  });

  test.each([
    '/spec/template/spec/containers/0/image',
    '/spec/template/spec/containers/-',
    '/metadata/~2',
    'metadata',
    '/toString',
    '/metadata/annotations/keyturn.dev/target',
  ])('has nothing at %j', (pointer) => {
    expect(readPointer(deployment, pointer)).toBeUndefined();
  });
});

describe('patchOf', () => {
  test('replaces what is there, adds a missing last segment, leaves out what is equal, and tests the names passed', () => {
    const patch = patchOf(deployment, {
      [`/spec/template/metadata/annotations/${INIT_DATA}`]: 'old',
      '/spec/template/metadata/annotations/keyturn.dev~1rotation': 'r-0000000000000002',
      [`${CHAT}/image`]: 'chat@sha256:2',
      [`${CHAT}/env/name=KEY_URI/value`]: 'kbs:///a/b/d',
    });
    expect(patch).toEqual({
      kind: 'patch',
      operations: [
        { op: 'test', path: '/spec/template/spec/containers/1/name', value: 'chat' },
        { op: 'test', path: '/spec/template/spec/containers/1/env/0/name', value: 'KEY_URI' },
        { op: 'add', path: '/spec/template/metadata/annotations/keyturn.dev~1rotation', value: 'r-0000000000000002' },
        { op: 'replace', path: '/spec/template/spec/containers/1/image', value: 'chat@sha256:2' },
        { op: 'replace', path: '/spec/template/spec/containers/1/env/0/value', value: 'kbs:///a/b/d' },
      ],
    });
  });

  test('has no operations where nothing would change', () => {
    expect(patchOf(deployment, { [`${CHAT}/image`]: 'chat@sha256:1' })).toEqual({ kind: 'patch', operations: [] });
  });

  test.each([
    ['', 'the whole object'],
    ['/spec/template/spec/initContainers/name=unseal/image', 'a missing list'],
    [`${CHAT}/env/name=ARTIFACT/value`, 'a missing element'],
    [`${CHAT}/env/name=ARTIFACT`, 'an element as the last segment'],
    ['/spec/template/spec/containers/1/image', 'an index'],
    ['/spec/replicas', 'a number'],
    [`${CHAT}/env`, 'a list'],
    ['/spec/template/metadata', 'a map'],
    ['/spec/replicas/x', 'a member of a number'],
    ['/spec/__proto__/x', 'an inherited member'],
    [`/${'a/'.repeat(64)}a`, 'too many segments'],
  ])('refuses %j (%s)', (pointer) => {
    expect(patchOf(deployment, { [pointer]: 'x' })).toMatchObject({ kind: 'bad', pointer });
  });

  test('refuses a name that two elements bear', () => {
    expect(
      patchOf(
        {
          env: [
            { name: 'A', value: '1' },
            { name: 'A', value: '2' },
          ],
        },
        { '/env/name=A/value': '3' },
      ),
    ).toMatchObject({ kind: 'bad' });
  });
});

describe('ownersOf', () => {
  const managers = [
    {
      manager: 'argocd-controller',
      operation: 'Apply',
      fields: { 'f:spec': { 'f:template': { 'f:spec': { 'f:containers': { 'k:{"name":"chat"}': { '.': {}, 'f:name': {}, 'f:image': {} } } } } } },
    },
    {
      manager: 'kubectl',
      operation: 'Update',
      fields: {
        'f:metadata': { 'f:annotations': {} },
        'f:spec': {
          'f:template': {
            'f:spec': { 'f:containers': { 'k:{"name":"chat"}': { 'f:ports': { 'k:{"containerPort":80,"protocol":"TCP"}': { 'f:name': {} } } } } },
          },
        },
      },
    },
    { manager: 'keyturn', operation: 'Update', fields: { 'f:metadata': { 'f:annotations': { 'f:keyturn.dev/target': {} } } } },
    { manager: 'atomic', operation: 'Apply', fields: { 'f:spec': { 'f:template': { 'f:spec': { 'f:containers': {} } } } } },
  ];

  test('names who set the field itself, whatever else they set', () => {
    expect(ownersOf(managers.slice(0, 3), deployment, `${CHAT}/image`)).toEqual([{ manager: 'argocd-controller', operation: 'Apply' }]);
    expect(ownersOf(managers.slice(0, 3), deployment, '/spec/template/spec/containers/name=sidecar/image')).toEqual([]);
    expect(ownersOf(managers, deployment, '/metadata/annotations/keyturn.dev~1target')).toEqual([{ manager: 'keyturn', operation: 'Update' }]);
  });

  test('knows an element by whatever keys its list has', () => {
    expect(ownersOf(managers.slice(0, 3), deployment, `${CHAT}/ports/name=web/name`)).toEqual([{ manager: 'kubectl', operation: 'Update' }]);
  });

  test('counts who owns the whole list above the field', () => {
    expect(ownersOf(managers, deployment, `${CHAT}/env/name=KEY_URI/value`)).toEqual([{ manager: 'atomic', operation: 'Apply' }]);
  });
});
