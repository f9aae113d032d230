/**
 * Coordinators and hosts in one process, each as its own program makes it. What no process has to die of asks for no more of them than
 * this one. SWITCHYARD_TEST_PROGRAMS is JSON of the programs with their variables, in the order in which they start. Each has only its own; a runner
 * thread that is made anew later gets those of the last one.
 */

export interface ProgramStart {
  program: "coordinator" | "worker";
  name: string;
  env: Readonly<Record<string, string>>;
}

const text = process.env.SWITCHYARD_TEST_PROGRAMS;
const before = { ...process.env };
for (const { env, name, program } of text === undefined ? [] : (JSON.parse(text) as ProgramStart[])) {
  for (const variable of Object.keys(process.env)) if (!(variable in before)) delete process.env[variable];
  Object.assign(process.env, before, env); // a host's runner thread is made now, and gets them as they are
  await import(`../../${program}/src/main.ts?${name}`);
  for (const variables of [before, process.env]) delete variables.SWITCHYARD_PARENT_PIPE; // the first holds it, and ends all
}
