import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from './host.js';
import { REPOSITORY } from './paths.js';
import { poll } from './poll.js';
import type { Running } from './running.js';

/**
 * What systemd does with a service and its socket unit, as far as the two of ours go: no systemd can run here. Makes the
 * sockets, starts the service at the first connection, hands them over, starts it again when it ends (SIGHUP: ends it,
 * as `systemctl restart`), hears what it says, and writes all that down. In Perl, which every Debian has: Node can neither
 * fork nor read a datagram of a unix socket.
 */
const SYSTEMD = String.raw`
use strict; use Socket; use POSIX ();
$| = 1; $^F = 9;
my ($told, @paths) = (shift @ARGV);
push @paths, shift @ARGV while $ARGV[0] ne '--';
shift @ARGV;
my (@sockets, $child, $again);
for my $path (@paths) {
  unlink $path;
  socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or die; bind($socket, pack_sockaddr_un($path)) or die "$path: $!";
  chmod 0600, $path; listen($socket, 4096); push @sockets, $socket;
}
$^F = 2;
unlink $told; socket(my $ear, AF_UNIX, SOCK_DGRAM, 0); bind($ear, pack_sockaddr_un($told)) or die "$told: $!";
my $end = 0;
$SIG{TERM} = sub { $end = 1; kill 'TERM', $child if $child };
$SIG{HUP} = sub { $again = 1; kill 'TERM', $child if $child };
print "listening\n";
for (;;) {
  my $bits = ''; vec($bits, fileno $ear, 1) = 1;
  if (!$child) { vec($bits, fileno $_, 1) = 1 for @sockets }
  my $ready = select($bits, undef, undef, $again && !$child ? 0 : 0.02);
  if ($ready > 0 && vec($bits, fileno $ear, 1)) {
    recv($ear, my $text, 8192, 0); print "said: $_\n" for split /\n/, $text;
  } elsif (!$child && !$end && ($ready > 0 || $again)) {
    $again = 0; $child = fork;
    if (!$child) {
      my $fd = 3; for (@sockets) { POSIX::dup2(fileno $_, $fd) if fileno $_ != $fd; $fd++ }
      @ENV{qw(LISTEN_PID LISTEN_FDS NOTIFY_SOCKET WATCHDOG_USEC WATCHDOG_PID)} = ($$, scalar @sockets, $told, 1500000, $$);
      exec @ARGV; die "exec: $!";
    }
    print "service started: $child\n";
  }
  if ($child && waitpid($child, POSIX::WNOHANG()) == $child) { print "service ended: status $?\n"; $child = undef }
  exit 0 if $end && !$child;
}
`;

/** Where our sockets and the one for notifications are on a host. */
const NOTIFY = '/run/notify';

/** A unit's settings, in order; a name may be there more than once. */
export function readUnit(kind: 'service' | 'socket'): (readonly [name: string, value: string])[] {
  const text = readFileSync(join(REPOSITORY, `plugin-spec/systemd/calico-libnetwork.${kind}`), 'utf8');
  return text
    .split('\n')
    .filter(line => /^\w+=/.test(line))
    .map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)] as const);
}

/** The values that a setting of a unit has. */
export function valuesOf(kind: 'service' | 'socket', name: string): string[] {
  return readUnit(kind)
    .filter(([each]) => each === name)
    .map(([, value]) => value);
}

/** Our service on a host, run with the sockets and the privileges that its units say. */
export class Service {
  private constructor(
    private readonly host: Host,
    private readonly running: Running,
  ) {}

  /** Makes the sockets; the daemon itself starts with the first call. `command` is what stands for ExecStart. */
  static async start(
    host: Host,
    command: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<Service> {
    const sockets = valuesOf('socket', 'ListenStream');
    const capabilities = (valuesOf('service', 'CapabilityBoundingSet')[0] ?? '')
      .split(' ')
      .map(name => `+${name.replace('CAP_', '').toLowerCase()}`)
      .join();
    const privileges = ['setpriv', '--bounding-set', `-all,${capabilities}`, '--no-new-privs', '--'];
    const argv = ['perl', '-e', SYSTEMD, NOTIFY, ...sockets, '--', ...privileges, ...command];
    const running = await host.spawn(argv, { log: 'calico-libnetwork', env });
    const service = new Service(host, running);
    await service.until('listening');
    return service;
  }

  /** `systemctl restart`: returns when the new one has said that it is ready. */
  async restart(): Promise<void> {
    const before = this.count('said: READY=1');
    this.running.kill('SIGHUP');
    await poll('the daemon to be ready again', 30_000, () => this.count('said: READY=1') > before);
  }

  /** `systemctl stop` of both units. */
  async stop(): Promise<void> {
    await this.running.stop();
  }

  /** Waits for a line of what happened, or of the daemon's log. */
  async until(text: string): Promise<void> {
    await poll(`"${text}" of the service on ${this.host.name}`, 30_000, () => this.count(text) > 0);
  }

  /** How often something was said or logged. */
  count(text: string): number {
    return this.running.output().split(text).length - 1;
  }

  /** All that happened, and the daemon's log. */
  output(): string {
    return this.running.output();
  }
}
