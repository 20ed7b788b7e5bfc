import { setTimeout as delay } from 'node:timers/promises';
import { waitFor } from '../support/wait-for.ts';
import { type EsbCluster, systemNamespace } from './esb-cluster.ts';
import type { Load } from './load.ts';
import type { LoadFailure, LoadResult } from './steady-load.ts';

/** Milliseconds that Kubernetes may take to know that a node is dead: 50 seconds by default, and more on a busy machine. */
const DETECTION_MS = 180_000;
/** Milliseconds after that in which kube-proxy has taken the gateway out of the Service. */
const SETTLE_MS = 10_000;
/** Milliseconds between two looks at the loads. */
const LOOK_MS = 10_000;

/** Wall-clock times of a node that was off the network, in milliseconds. */
export interface CutOff {
  readonly cutAt: number;
  /** Kubernetes has told that the gateway of the node takes no calls. */
  readonly detectedAt: number;
  /** No call that begins after this goes to the gateway of the node. */
  readonly settledAt: number;
  readonly joinedAt: number;
  /** The node and every Pod of ESB are Ready again. */
  readonly backAt: number;
}

export interface CutOffOptions {
  readonly node: string;
  /** Milliseconds from the cut until the node is on the network again. */
  readonly forMs: number;
  /** Loads that have to go on while the node is away. */
  readonly steady: readonly Load[];
}

/** Takes a node with a gateway off the network for some time, under load. */
export async function cutOff(esb: EsbCluster, { node, forMs, steady }: CutOffOptions): Promise<CutOff> {
  const { lab } = esb;
  const cutAt = Date.now();
  await lab.cutOff(node);
  await waitFor(
    `the gateway on ${node} to be out of the Service`,
    async () => !(await servingNodes(esb)).includes(node),
    { timeoutMs: DETECTION_MS, everyMs: 500 },
  );
  const detectedAt = Date.now();
  await delay(SETTLE_MS);
  const settledAt = Date.now();
  while (Date.now() < cutAt + forMs) {
    await Promise.all([delay(Math.min(LOOK_MS, cutAt + forMs - Date.now())), ...steady.map((load) => load.goOn(1))]);
  }
  const joinedAt = Date.now();
  await lab.joinAgain(node);
  await waitFor(`the gateways after the return of ${node}`, async () => (await servingNodes(esb)).length >= 2, {
    timeoutMs: DETECTION_MS,
    everyMs: 500,
  });
  await esb.rolledOut();
  return { cutAt, detectedAt, settledAt, joinedAt, backAt: Date.now() };
}

/** Failures of calls of which no part lies between two times. */
export function outside({ failures }: LoadResult, from: number, to: number): readonly LoadFailure[] {
  return failures.filter((each) => Date.parse(each.at) < from || beganAt(each) > to);
}

export function beganAt({ afterMs, at }: LoadFailure): number {
  return Date.parse(at) - afterMs;
}

/** Seconds from the cut, for a report. */
export function toldTimes({ backAt, cutAt, detectedAt, joinedAt }: CutOff): string {
  const seconds = (at: number): string => ((at - cutAt) / 1_000).toFixed(1);
  return `known after ${seconds(detectedAt)} s, on the network after ${seconds(joinedAt)} s, back after ${seconds(backAt)} s`;
}

/** The reason without what differs from call to call. */
const kindOf = ({ why }: LoadFailure): string => /^\d{3}|^E[A-Z]+|no answer in time/.exec(why)?.[0] ?? why.slice(0, 80);

/** Numbers of a load: its failures by their kind, and when the last one ended. */
export function toldLoad({ answered, failed, failures, longestMs }: LoadResult, { cutAt }: CutOff): string {
  const kinds = Map.groupBy(failures, kindOf);
  const last = failures.at(-1);
  const told = [...kinds].map(([kind, some]) => `${some.length} ${kind}`).join(', ');
  return last === undefined
    ? `${answered} answered, all, the longest after ${longestMs} ms`
    : `${answered} answered, ${failed} not (${told}), the last of these ${((Date.parse(last.at) - cutAt) / 1_000).toFixed(1)} s after the cut`;
}

/** Nodes of the gateways that the Service sends calls to, one for each. */
export async function servingNodes({ lab }: EsbCluster): Promise<readonly string[]> {
  const slices = JSON.parse(
    await lab.kubectl([
      ...['get', 'endpointslices', '-n', systemNamespace],
      ...['-l', 'kubernetes.io/service-name=esb-gateway', '-o', 'json'],
    ]),
  ) as { readonly items: readonly { readonly endpoints?: readonly Endpoint[] | null }[] };
  return slices.items
    .flatMap(({ endpoints }) => endpoints ?? [])
    .filter(({ conditions }) => conditions?.ready !== false)
    .map(({ nodeName = '' }) => nodeName)
    .toSorted();
}

interface Endpoint {
  readonly nodeName?: string;
  readonly conditions?: { readonly ready?: boolean };
}
