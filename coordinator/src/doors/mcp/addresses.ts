/** Addresses of what the cluster has, as resources of the Model Context Protocol. */

export function jobUri(jobId: string): string {
  return `switchyard://jobs/${jobId}`;
}

export function outputUri(jobId: string): string {
  return `${jobUri(jobId)}/output`;
}
