import type { Logger } from 'pino';
import type { AddressSource } from '../setting-kinds.js';
import type { Mirror } from '../datastore/mirror.js';
import { withDeadline } from '../deadline.js';
import { detectAddress } from '../host/autodetect.js';
import type { DetectionMethod } from '../host/autodetect.js';
import type { InterfaceAddress, Peers } from '../host/peers.js';
import { parseAddress, bits, formatAddress } from '../ipam/cidr.js';
import type { Family } from '../ipam/cidr.js';
import type { CalicoNode, NodeChange } from '../model/node.js';
import { keepApplied } from './keep-applied.js';
import type { NodeWriter } from './node-writer.js';

/** Milliseconds between looks that nothing asks for. */
const CHECK = 30_000;
/** For all round trips of one look. */
const PATIENCE = 10_000;
const FAMILIES = [4, 6] as const;

export interface RegistrationParts {
  readonly writer: NodeWriter;
  /** Of all Nodes, by key. */
  readonly nodes: Mirror<CalicoNode>;
  readonly host: Pick<Peers, 'addresses' | 'sourceTo' | 'onAddressChange'>;
  readonly source: Readonly<Record<Family, AddressSource>>;
  readonly method: Readonly<Record<Family, DetectionMethod>>;
  readonly log: Logger;
}

/**
 * Keeps this host's Node in the datastore, with the address by which others reach it: at the start, when the host's
 * addresses change, and when somebody deletes it. Fields of others stay. What nobody asked for costs no round trip
 * while the Node is right; a change costs two. Nothing waits for it.
 */
export class NodeRegistration {
  private readonly kept;
  private readonly endings: (() => void)[] = [];
  /** What a start does beyond later looks, as Calico does, is still to do. */
  private isStart = true;
  /** By family, what was said last of why it has no address. */
  private readonly complaints = new Map<Family, string>();

  constructor(private readonly parts: RegistrationParts) {
    this.kept = keepApplied('the Node of this host', () => this.look(), parts.log);
  }

  /** Begins; the datastore need not answer yet. Call once. */
  start(): void {
    const { nodes, host } = this.parts;
    const timer = setInterval(this.kept.changed, CHECK).unref();
    this.endings.push(() => clearInterval(timer), host.onAddressChange(this.kept.changed));
    this.endings.push(nodes.onEntries(keys => keys.has(this.parts.writer.key) && this.kept.changed()));
    // Nothing is looked at while the datastore is out of sight.
    let wasCurrent = false;
    this.endings.push(
      nodes.onChange(() => {
        if (nodes.isCurrent && !wasCurrent) this.kept.changed();
        wasCurrent = nodes.isCurrent;
      }),
    );
    nodes.ready.then(this.kept.changed, () => undefined);
  }

  close(): void {
    this.kept.stop();
    for (const end of this.endings.splice(0)) end();
  }

  /** Compares what is known of the Node with what it should be, and only where that differs goes to the datastore. */
  private async look(): Promise<void> {
    const { nodes, writer, host, log } = this.parts;
    if (!nodes.isCurrent) return;
    const onHost = await host.addresses();
    if (await this.changeOf(writer.known, onHost)) {
      const change = await withDeadline(PATIENCE, () => writer.write(node => this.changeOf(node, onHost)));
      if (change) log.info({ addresses: change.addresses }, 'wrote the Node of this host');
    }
    this.isStart = false;
  }

  /** Undefined where the Node is right as it is. */
  private async changeOf(
    node: CalicoNode | undefined,
    onHost: readonly InterfaceAddress[],
  ): Promise<NodeChange | undefined> {
    const addresses: Partial<Record<Family, string>> = {};
    const detected: Partial<Record<Family, boolean>> = {};
    for (const family of FAMILIES) {
      const wanted = await this.addressOf(family, node, onHost);
      if (!wanted || wanted.text === node?.addresses[family]?.text) continue;
      addresses[family] = wanted.text;
      detected[family] = wanted.isDetected;
    }
    // A Node without addresses has labels to be given all the same.
    return !node || Object.keys(addresses).length > 0 ? { addresses, detected } : undefined;
  }

  /** The address the Node should say; undefined: whatever it says. */
  private async addressOf(
    family: Family,
    node: CalicoNode | undefined,
    onHost: readonly InterfaceAddress[],
  ): Promise<{ text: string; isDetected: boolean } | undefined> {
    const source = this.parts.source[family];
    const now = node?.addresses[family]?.text;
    if (source === 'none') return undefined;
    if (typeof source === 'object') {
      this.complain(
        family,
        interfaceWith(source.address, onHost) ? '' : this.nowhere(family, source.address),
      );
      // Of the full length where no interface had it yet: then it is still to be told which subnet it is in.
      const isGuess = now === withLength(source.address, []) && !source.address.includes('/');
      return this.isStart || now === undefined || isGuess
        ? { text: withLength(source.address, onHost), isDetected: false }
        : undefined;
    }
    const isGone = now !== undefined && !onHost.some(one => `${one.address}/${one.prefixLength}` === now);
    // What an operator wrote stays, though no interface has it: it may be that of a translation in between.
    const isOurs = source === 'autodetect' || node?.detected[family] === now;
    const isDue = now === undefined || (isGone && isOurs) || (source === 'autodetect' && this.isStart);
    if (!isDue) return undefined;
    const text = await detectAddress(this.parts.host, this.parts.method[family], family);
    this.complain(family, text === undefined ? this.notFound(family) : '');
    return text === undefined ? undefined : { text, isDetected: true };
  }

  private complain(family: Family, complaint: string): void {
    if (complaint !== '' && this.complaints.get(family) !== complaint)
      this.parts.log.warn({ family }, complaint);
    this.complaints.set(family, complaint);
  }

  private notFound(family: Family): string {
    const name = settingOf(family);
    return `no IPv${family} address of this host was found: other hosts cannot reach its containers. Set ${name} or ${name}_AUTODETECTION_METHOD`;
  }

  private nowhere(family: Family, address: string): string {
    return `${settingOf(family)}=${address} is on no interface of this host: unless something in between translates it, other hosts cannot reach its containers. Correct it, or leave it out`;
  }
}

function settingOf(family: Family): string {
  return family === 4 ? 'IP' : 'IP6';
}

/** Who has the address, whatever length is written with it. */
function interfaceWith(text: string, onHost: readonly InterfaceAddress[]): InterfaceAddress | undefined {
  const address = parseAddress(text.split('/')[0] ?? '');
  return address && onHost.find(one => one.address === formatAddress(address));
}

/** With the prefix length of the interface that has the address, else as one host. */
function withLength(text: string, onHost: readonly InterfaceAddress[]): string {
  if (text.includes('/')) return text;
  const alone = bits(parseAddress(text)?.family ?? 4);
  return `${text}/${interfaceWith(text, onHost)?.prefixLength ?? alone}`;
}
