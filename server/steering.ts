/**
 * Keeps new connections away from one of several processes that listen on a port.
 *
 * With `SO_REUSEPORT` Linux gives each new connection to one of the listeners, by a hash. When a
 * listener closes, the connections that wait in its queue are reset. So a process that is to end must
 * get no new ones first, which the kernel offers one way: a filter program for the group of listeners,
 * which answers the number of the one to take. It needs the descriptor of a listener and two calls that
 * Deno has no name for, so this uses libc, and where that can't be had steers nothing.
 *
 * @module
 */

/** `SOL_SOCKET`, and its options for the filter program of a group of listeners. */
const SOL_SOCKET = 1;
const SO_ATTACH_REUSEPORT_CBPF = 51;
const SO_DETACH_REUSEPORT_BPF = 68;
/** The same numbers on every architecture: they are younger than the custom of having others. */
const SYS_PIDFD_OPEN = 434n;
const SYS_PIDFD_GETFD = 438n;

/** Instructions of the classic BPF machine. */
const LOAD_ABSOLUTE = 0x20;
const ADD = 0x04;
const MODULO = 0x94;
const JUMP_IF_AT_LEAST = 0x35;
const RETURN = 0x06;
const RETURN_ACCUMULATOR = 0x16;
/** Where a load finds a random number: `SKF_AD_OFF + SKF_AD_RANDOM`. */
const RANDOM = -0x1000 + 56;

const SYMBOLS = {
  syscall: { parameters: ["i64", "i64", "i64", "i64"], result: "i64" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
} as const;

/** Code, jump if true, jump if false, operand. */
type Instruction = readonly [number, number, number, number];

/** Where the processes listen. */
export interface ListenAddress {
  /** An address or a name. */
  readonly hostname: string;
  /** The port. */
  readonly port: number;
}

/** What {@linkcode Steering.away} needs to know of the listeners. */
export interface Listeners {
  /** How many there are. */
  readonly count: number;
  /** A process that listens, and is not the one to be spared. */
  readonly pid: number;
}

/** Steers the new connections of one port. */
export class Steering implements Disposable {
  readonly #libc: Deno.DynamicLibrary<typeof SYMBOLS>;
  readonly #address: ListenAddress;

  private constructor(libc: Deno.DynamicLibrary<typeof SYMBOLS>, address: ListenAddress) {
    this.#libc = libc;
    this.#address = address;
  }

  /** `undefined`: this system has no GNU libc, or is no Linux. */
  static open(address: ListenAddress): Steering | undefined {
    if (Deno.build.os !== "linux") return undefined;
    try {
      return new Steering(Deno.dlopen("libc.so.6", SYMBOLS), address);
    } catch (_error) {
      // Another libc. Connections are then not steered, which the caller says.
      return undefined;
    }
  }

  /**
   * Gives new connections to every listener but the one for whose answers `isSpared` is true, which is
   * found by asking each. Answers whether it was found; if not, nothing is changed.
   *
   * @throws {Error} The kernel refuses.
   */
  async away(listeners: Listeners, isSpared: () => Promise<boolean>): Promise<boolean> {
    let found = false;
    try {
      for (let index = 0; index < listeners.count && !found; index++) {
        this.#attach(listeners.pid, [[RETURN, 0, 0, index]]);
        if (!await isSpared()) continue;
        this.#attach(listeners.pid, allBut(index, listeners.count));
        found = true;
      }
    } finally {
      if (!found) this.back(listeners.pid);
    }
    return found;
  }

  /** Lets the kernel choose again. `pid`: any process that listens. */
  back(pid: number): void {
    this.#set(pid, SO_DETACH_REUSEPORT_BPF, new Uint8Array(4));
  }

  /** Unloads libc. */
  [Symbol.dispose](): void {
    this.#libc.close();
  }

  #attach(pid: number, program: readonly Instruction[]): void {
    const code = encode(program);
    const header = new DataView(new ArrayBuffer(16));
    header.setUint16(0, program.length, true);
    header.setBigUint64(8, Deno.UnsafePointer.value(Deno.UnsafePointer.of(code)), true);
    this.#set(pid, SO_ATTACH_REUSEPORT_CBPF, new Uint8Array(header.buffer));
  }

  /** Sets an option of the whole group, through a copy of the descriptor of one of its listeners. */
  #set(pid: number, option: number, value: Uint8Array<ArrayBuffer>): void {
    const { syscall, setsockopt, close } = this.#libc.symbols;
    const process = Number(syscall(SYS_PIDFD_OPEN, BigInt(pid), 0n, 0n));
    const fd = listenerOf(pid, this.#address.port);
    const copy = Number(syscall(SYS_PIDFD_GETFD, BigInt(process), BigInt(fd), 0n));
    try {
      if (copy < 0 || setsockopt(copy, SOL_SOCKET, option, value, value.byteLength) < 0) {
        throw new Error(`Cannot steer connections: the kernel refuses (option ${option})`);
      }
    } finally {
      // At once: a copy that stayed open would keep the listener alive when its process ends.
      if (copy >= 0) close(copy);
      if (process >= 0) close(process);
    }
  }
}

/** A random one of `count` listeners, the one at `index` left out. */
function allBut(index: number, count: number): Instruction[] {
  return [
    [LOAD_ABSOLUTE, 0, 0, RANDOM],
    [MODULO, 0, 0, count - 1],
    [JUMP_IF_AT_LEAST, 0, 1, index],
    [ADD, 0, 0, 1],
    [RETURN_ACCUMULATOR, 0, 0, 0],
  ];
}

function encode(program: readonly Instruction[]): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(program.length * 8));
  program.forEach(([code, jumpTrue, jumpFalse, operand], at) => {
    view.setUint16(at * 8, code, true);
    view.setUint8(at * 8 + 2, jumpTrue);
    view.setUint8(at * 8 + 3, jumpFalse);
    view.setUint32(at * 8 + 4, operand >>> 0, true);
  });
  return new Uint8Array(view.buffer);
}

/**
 * The descriptor with which a process listens on a port.
 *
 * @throws {Error} It does not.
 */
function listenerOf(pid: number, port: number): number {
  const inodes = listeningInodes(port);
  for (const { name } of Deno.readDirSync(`/proc/${pid}/fd`)) {
    const link = textOf(`/proc/${pid}/fd/${name}`, Deno.readLinkSync);
    const [, inode] = /^socket:\[(\d+)\]$/.exec(link) ?? [];
    if (inode !== undefined && inodes.has(inode)) return Number(name);
  }
  throw new Error(`Cannot steer connections: process ${pid} does not listen on ${port}`);
}

/** A descriptor may be closed since it was listed, and a machine may have no IPv6. */
function textOf(path: string, read: (path: string) => string): string {
  try {
    return read(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

/** The sockets that listen on a port. Their state in the kernel's table is 0A. */
function listeningInodes(port: number): ReadonlySet<string> {
  const lines = ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((path) =>
    textOf(path, Deno.readTextFileSync).split("\n").slice(1)
  );
  const found = new Set<string>();
  for (const line of lines) {
    const [, local = "", , state, , , , , , inode] = line.trim().split(/\s+/);
    if (state !== "0A" || Number.parseInt(local.split(":")[1] ?? "", 16) !== port) continue;
    if (inode !== undefined) found.add(inode);
  }
  return found;
}
