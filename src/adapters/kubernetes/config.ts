import { z } from 'zod';
import { windowMistake } from '#src/domain/windows.ts';
import { reference } from '#src/reference.ts';

/** A window longer than a week is no window: every period of cron that people use is shorter. Minutes. */
const WINDOW_MAX_MINUTES = 10_080;

/** When pods may be moved. */
const window = z
  .strictObject({
    /** When it opens, in cron's five fields. */
    cron: z.string().max(100),
    /** How long it stays open. One that is longer than its period never closes. */
    minutes: z.int().min(1).max(WINDOW_MAX_MINUTES),
    /** An IANA time zone. */
    timeZone: z.string().max(60),
  })
  .superRefine((settings, context) => {
    const mistake = windowMistake(settings);
    if (mistake !== null) context.addIssue({ code: 'custom', path: [mistake.field], message: mistake.expected, input: settings[mistake.field] });
  });

/** `clusters.<name>` of keyturn.yaml. Exactly one of `kubeconfig` and `inCluster` is there. */
export const kubernetesSchema = z
  .strictObject({
    /** The cluster's address, its CA and our credentials; read again once a minute, since mounted files are replaced. */
    kubeconfig: reference.optional(),
    /** The pod's own service account, where Keyturn runs in the cluster that it moves. */
    inCluster: z.literal(true).optional(),
    /** A context of the kubeconfig; its `current-context` otherwise. */
    context: z.string().min(1).max(253).optional(),
    /** How far its nodes' clocks may stand from the database's. Seconds; 5, since NTP keeps a healthy fleet well within one. */
    clockBoundSeconds: z.number().min(0).max(300).default(5),
    /** Optional: pods are moved only while one of these is open. None: at any time. */
    windows: z.array(window).max(100).default([]),
  })
  .refine(
    (settings) => (settings.kubeconfig === undefined) !== (settings.inCluster === undefined),
    'expected either kubeconfig: { file: … } or inCluster: true',
  );

/** The settings of one cluster, checked. */
export type KubernetesConfig = z.infer<typeof kubernetesSchema>;
