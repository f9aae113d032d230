/** The HTTP door of the systems to compare with: fastify and the product's own codec, one route, nothing else. */

import { decodeInferRequest, encodeInferResponse, type Tensor } from "@switchyard/protocol";
import Fastify from "fastify";

export type Infer = (input: Tensor) => Promise<{ bytes: Uint8Array; shape: readonly number[] }>;

/** Answers the port. */
export async function openDoor(infer: Infer): Promise<number> {
  const app = Fastify({ logger: false, bodyLimit: 64 * 1024 * 1024 });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  app.post<{ Params: { model: string }; Body: Buffer }>("/v2/models/:model/infer", async (request, reply) => {
    const headerLength = Number(request.headers["inference-header-content-length"]);
    const wanted = decodeInferRequest({ body: request.body, headerLength });
    const { bytes, shape } = await infer(wanted.inputs[0]!);
    const outputs: Tensor[] = [{ name: "probabilities", datatype: "FP32", shape: [...shape], bytes }];
    const response = { modelName: request.params.model, modelVersion: "1", outputs };
    const encoded = encodeInferResponse({ response, wishes: wanted });
    reply.header("content-type", encoded.contentType).header("inference-header-content-length", String(encoded.headerLength));
    return reply.send(Buffer.concat(encoded.parts));
  });
  await app.listen({ host: "127.0.0.1", port: 0 });
  const address = app.server.address();
  if (address === null || typeof address === "string") throw new Error("the door has no port");
  return address.port;
}
