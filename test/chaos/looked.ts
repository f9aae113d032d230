const atOnce = 16;

/** Looks at each, several at a time. */
export async function looked(those: Iterable<string>, look: (one: string) => Promise<void>): Promise<void> {
  const left = [...those];
  const some = async (): Promise<void> => {
    for (let one = left.pop(); one !== undefined; one = left.pop()) await look(one);
  };
  await Promise.all(Array.from({ length: atOnce }, some));
}
