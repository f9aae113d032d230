/** A tensor as somebody can look at it: a picture where its shape is one's, bars where its values have names, else its first numbers. */

import type { ModelView } from "@switchyard/protocol";
import { Fragment } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { number, percent, size } from "./format.ts";
import { useResource } from "./live.ts";
import { type Classes, classesOf, type ImagePlane, type Named, planeOf } from "./tensor-shape.ts";
import { Bar } from "./widgets.tsx";

export interface ShownTensor {
  name: string;
  datatype: string;
  shape: number[];
  size_bytes?: number;
  data?: unknown[] | undefined;
}

const mostNumbers = 128;
const mostRanked = 10;
const mostItems = 4;
const leastPicturePx = 96;

export function TensorPreview({ tensor, model, version }: { tensor: ShownTensor; model: string; version: number }) {
  const known = useResource<ModelView>(`/v1/models/${encodeURIComponent(model)}/versions/${version}`, { once: true });
  const values = tensor.data?.flat(8) ?? [];
  const isInput = known.value?.inputs.some(({ name }) => name === tensor.name) ?? false;
  const plane = planeOf(tensor, isInput ? known.value : undefined);
  const classes = classesOf(tensor, known.value?.labels?.[tensor.name] ?? []);
  return (
    <figure class="tensor">
      <figcaption>
        <b>{tensor.name}</b> <code>{`${tensor.datatype} [${tensor.shape.join(", ")}]`}</code>
        {tensor.size_bytes !== undefined && <span class="quiet"> {size(tensor.size_bytes)}</span>}
      </figcaption>
      {tensor.data === undefined ? (
        <p class="quiet">Too large to be shown here.</p>
      ) : plane ? (
        <Picture plane={plane} label={`${tensor.name} as a picture`} />
      ) : classes ? (
        <NamedItems classes={classes} />
      ) : (
        <p class="numbers">
          {values
            .slice(0, mostNumbers)
            .map((value) => (typeof value === "number" ? number(value) : String(value)))
            .join("  ")}
          {values.length > mostNumbers && ` … and ${number(values.length - mostNumbers)} more`}
        </p>
      )}
    </figure>
  );
}

function Picture({ plane, label }: { plane: ImagePlane; label: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    context?.putImageData(new ImageData(plane.rgba, plane.width, plane.height), 0, 0);
  }, [plane]);
  const scale = Math.max(1, Math.ceil(leastPicturePx / Math.max(plane.width, plane.height)));
  return (
    <canvas
      ref={canvas}
      role="img"
      aria-label={label}
      class="picture"
      width={plane.width}
      height={plane.height}
      style={{ width: `${plane.width * scale}px`, height: `${plane.height * scale}px` }}
    />
  );
}

/** Each item by itself: the scores of one say nothing about another. */
function NamedItems({ classes: { items, kind } }: { classes: Classes }) {
  const most = kind === "scores" ? mostItems : mostRanked;
  return (
    <>
      {kind === "scores" ? (
        items.slice(0, most).map((ranked, at) => (
          <Fragment key={at}>
            {items.length > 1 && <p class="quiet">Item {at}</p>}
            <Ranked ranked={ranked} />
          </Fragment>
        ))
      ) : (
        <ol class="ranked">
          {items.slice(0, most).map(([one], at) => (
            <li key={at}>
              <span>{one?.label}</span>
              <code>{one?.value}</code>
            </li>
          ))}
        </ol>
      )}
      {items.length > most && <p class="quiet">… and {number(items.length - most)} more</p>}
    </>
  );
}

function Ranked({ ranked }: { ranked: readonly Named[] }) {
  const isShare = ranked.every(({ value }) => value >= 0 && value <= 1);
  return (
    <ol class="ranked">
      {ranked.slice(0, mostRanked).map(({ label, value }, at) => (
        <li key={at}>
          <span>{label}</span>
          <Bar share={isShare ? value : 0} label={isShare ? percent(value) : number(value)} />
        </li>
      ))}
    </ol>
  );
}
