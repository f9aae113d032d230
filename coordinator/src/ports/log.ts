/** Where this process says what happened: one line per event, never tensors, results or keys. */

export type LogFields = Record<string, string | number | boolean | undefined>;

export interface Log {
  /** Lines about single jobs. Absent where they are not wanted: then nothing should be made ready for them. */
  debug?(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}
