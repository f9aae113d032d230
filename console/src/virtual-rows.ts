/** Of a long list the rows that are in sight: the only file that knows the virtualizer. */

import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import type { RefObject } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";

export interface VirtualRows {
  /** Of all rows. */
  heightPx: number;
  rows: { index: number; topPx: number }[];
  scrollTo(index: number): void;
}

export function useVirtualRows(count: number, how: { place: RefObject<HTMLElement | null>; rowPx: number }): VirtualRows {
  const [, setTurn] = useState(0);
  const options = {
    count,
    getScrollElement: () => how.place.current,
    estimateSize: () => how.rowPx,
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    overscan: 8,
    scrollPaddingStart: how.rowPx, // the head lies over the first row
    scrollPaddingEnd: how.rowPx,
    onChange: () => setTurn((turn) => turn + 1),
  };
  const [virtualizer] = useState(() => new Virtualizer<HTMLElement, HTMLElement>(options));
  virtualizer.setOptions(options);
  useLayoutEffect(() => virtualizer._didMount(), [virtualizer]);
  useLayoutEffect(() => virtualizer._willUpdate());
  return {
    heightPx: virtualizer.getTotalSize(),
    rows: virtualizer.getVirtualItems().map(({ index, start }) => ({ index, topPx: start })),
    scrollTo: (index) => virtualizer.scrollToIndex(index, { align: "auto" }),
  };
}
