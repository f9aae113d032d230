/** A long line of jobs in order, in short blocks: adding, removing and counting stay cheap where a plain array would move everything. */

const mostInBlock = 512;

interface Block<Job> {
  jobs: Job[];
  items: number;
}

export class OrderedJobs<Job extends { items: number }> {
  readonly #inOrder: (a: Job, b: Job) => number;
  #blocks: Block<Job>[] = [];
  length = 0;
  items = 0;

  constructor(inOrder: (a: Job, b: Job) => number) {
    this.#inOrder = inOrder;
  }

  /** The job at a place; quick near the front. */
  at(place: number): Job | undefined {
    let left = place;
    for (const { jobs } of this.#blocks) {
      if (left < jobs.length) return jobs[left];
      left -= jobs.length;
    }
    return undefined;
  }

  *[Symbol.iterator](): Iterator<Job> {
    for (const { jobs } of this.#blocks) yield* jobs;
  }

  add(job: Job): void {
    const block = this.#blocks[Math.min(this.#blockOf(job), this.#blocks.length - 1)];
    if (!block) {
      this.#blocks.push({ jobs: [job], items: job.items });
    } else {
      block.jobs.splice(this.#placeIn(block.jobs, job), 0, job);
      block.items += job.items;
      if (block.jobs.length > mostInBlock) this.#split(block);
    }
    this.length++;
    this.items += job.items;
  }

  /** Whether it was there. */
  remove(job: Job): boolean {
    const which = this.#blockOf(job);
    const block = this.#blocks[which];
    const place = block ? this.#placeIn(block.jobs, job) : -1;
    if (!block || block.jobs[place] !== job) return false;
    block.jobs.splice(place, 1);
    block.items -= job.items;
    if (block.jobs.length === 0) this.#blocks.splice(which, 1);
    this.length--;
    this.items -= job.items;
    return true;
  }

  /** Items that stand before a job, which need not stand here itself. */
  itemsBefore(job: Job): number {
    const which = this.#blockOf(job);
    let sum = 0;
    for (let at = 0; at < which; at++) sum += (this.#blocks[at] as Block<Job>).items;
    const jobs = this.#blocks[which]?.jobs ?? [];
    const place = this.#placeIn(jobs, job);
    for (let at = 0; at < place; at++) sum += (jobs[at] as Job).items;
    return sum;
  }

  #split(block: Block<Job>): void {
    const jobs = block.jobs.splice(mostInBlock / 2);
    const items = jobs.reduce((sum, job) => sum + job.items, 0);
    block.items -= items;
    this.#blocks.splice(this.#blocks.indexOf(block) + 1, 0, { jobs, items });
  }

  /** The first block whose last job does not come before this one. */
  #blockOf(job: Job): number {
    let [low, high] = [0, this.#blocks.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const last = this.#blocks[middle]?.jobs.at(-1) as Job;
      if (last !== job && this.#inOrder(last, job) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #placeIn(jobs: readonly Job[], job: Job): number {
    let [low, high] = [0, jobs.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (jobs[middle] !== job && this.#inOrder(jobs[middle] as Job, job) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
