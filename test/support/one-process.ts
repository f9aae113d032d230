/**
 * Coordinators and hosts in one process, each as its own program makes it. What no process has to die of asks for no more of them than
 * this one. SWITCHYARD_TEST_PROGRAMS is JSON of the programs with their variables, in the order in which they start.
 */

export interface ProgramStart {
  program: "coordinator" | "worker";
  name: string;
  env: Readonly<Record<string, string>>;
}

const text = process.env.SWITCHYARD_TEST_PROGRAMS;
for (const { env, name, program } of text === undefined ? [] : (JSON.parse(text) as ProgramStart[])) {
  Object.assign(process.env, env); // a host's runner thread is made now, and gets them as they are
  await import(`../../${program}/src/main.ts?${name}`);
  delete process.env.SWITCHYARD_PARENT_PIPE; // the first holds it, and ends all
}
