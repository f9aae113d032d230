/** Numbers of seven bits a byte, as protobuf packs them, from and to the words of typed arrays. Sixty-four bits stay two halves. */

/** How many numbers the bytes hold, by the bytes that end one; undefined when the last one does not end, or one is longer than ten bytes. */
export function countVarints(bytes: Uint8Array): number | undefined {
  let count = 0;
  let length = 0;
  for (let at = 0; at < bytes.length; at++) {
    length++;
    if (bytes[at]! < 0x80) {
      count++;
      length = 0;
    } else if (length === 10) return undefined;
  }
  return length === 0 ? count : undefined;
}

/** Low and high half of the number that `readVarint` read last. */
export const varint = { low: 0, high: 0 };

/** Reads the number at `at` into `varint`, as unsigned halves; answers where the next one begins. The bytes have been counted. */
export function readVarint(bytes: Uint8Array, at: number): number {
  let next = at;
  let byte = bytes[next++]!;
  let low = byte & 0x7f;
  let high = 0;
  for (let shift = 7; byte >= 0x80; shift += 7) {
    byte = bytes[next++]!;
    const bits = byte & 0x7f;
    if (shift < 28) low |= bits << shift;
    else if (shift === 28) {
      low |= bits << 28;
      high = bits >>> 4;
    } else high |= bits << (shift - 32);
  }
  varint.low = low >>> 0;
  varint.high = high >>> 0;
  return next;
}

export function varintBytes(low: number, high: number): number {
  if (high === 0) return low < 0x80 ? 1 : low < 0x4000 ? 2 : low < 0x20_0000 ? 3 : low < 0x1000_0000 ? 4 : 5;
  return high < 0x8 ? 5 : high < 0x400 ? 6 : high < 0x2_0000 ? 7 : high < 0x100_0000 ? 8 : high < 0x8000_0000 ? 9 : 10;
}

/** Writes a number of unsigned halves at `at`; answers where the next one begins. */
export function writeVarint(into: Uint8Array, at: number, value: { low: number; high: number }): number {
  let { low, high } = value;
  let next = at;
  while (high !== 0 || low >= 0x80) {
    into[next++] = (low & 0x7f) | 0x80;
    low = ((low >>> 7) | (high << 25)) >>> 0;
    high >>>= 7;
  }
  into[next++] = low;
  return next;
}

/** The number of two halves: exact as a number, or as its digits where numbers have none for it. */
export function exactNumber(low: number, high: number, how: { signed: boolean }): number | string {
  const isNegative = how.signed && high >= 0x8000_0000;
  const near = (isNegative ? high - 2 ** 32 : high) * 2 ** 32 + low;
  if (Number.isSafeInteger(near)) return near;
  const whole = (BigInt(high) << 32n) | BigInt(low);
  return String(how.signed ? BigInt.asIntN(64, whole) : whole);
}
