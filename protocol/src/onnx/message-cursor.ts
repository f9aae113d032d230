/**
 * Walks one protobuf message field by field without copying. A field that nobody asks for is stepped over by its length,
 * so that a file's weights cost nothing. Throws RangeError or Error on bytes that are not a whole message.
 */

import protobuf from "protobufjs/minimal.js";

const lengthDelimited = 2;

export class MessageCursor {
  readonly #reader: protobuf.Reader;
  readonly #end: number;
  #wireType = 0;
  #valueStart: number;
  #valueEnd: number;

  constructor(reader: protobuf.Reader, start: number, end: number) {
    this.#reader = reader;
    this.#end = end;
    this.#valueStart = start;
    this.#valueEnd = start;
  }

  static over(bytes: Uint8Array): MessageCursor {
    return new MessageCursor(protobuf.Reader.create(bytes), 0, bytes.length);
  }

  /** Number of the next field, 0 at the end of the message. */
  next(): number {
    const reader = this.#reader;
    reader.pos = this.#valueEnd;
    if (reader.pos === this.#end) return 0;
    const tag = reader.tag();
    const field = tag >>> 3;
    this.#wireType = tag & 7;
    if (this.#wireType === lengthDelimited) {
      if (field === 0) throw new Error("field number 0");
      const length = reader.size();
      this.#valueStart = reader.pos;
      this.#valueEnd = reader.pos + length;
    } else {
      this.#valueStart = reader.pos;
      reader.skipType(this.#wireType, 0, field);
      this.#valueEnd = reader.pos;
    }
    if (this.#valueEnd > this.#end) {
      throw new RangeError(`field ${field} at byte ${this.#valueStart} ends at byte ${this.#valueEnd}, its message at byte ${this.#end}`);
    }
    return field;
  }

  /** The current field as an integer; beyond 2^53 the nearest number. */
  integer(): number {
    this.#expect(0, "a number");
    this.#reader.pos = this.#valueStart;
    const value: unknown = this.#reader.int64();
    return Number(typeof value === "number" ? value : String(value));
  }

  text(): string {
    this.#expect(lengthDelimited, "text");
    return new TextDecoder().decode(this.#reader.buf.subarray(this.#valueStart, this.#valueEnd));
  }

  /** The current field as a message of its own. The parent goes on with `next()` at any time. */
  message(): MessageCursor {
    this.#expect(lengthDelimited, "a message");
    return new MessageCursor(this.#reader, this.#valueStart, this.#valueEnd);
  }

  #expect(wireType: number, what: string): void {
    if (this.#wireType !== wireType) throw new Error(`wire type ${this.#wireType} at byte ${this.#valueStart} where ${what} belongs`);
  }
}
