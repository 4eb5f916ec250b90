/**
 * Where the tiles go: pure functions from sizes to rectangles (CSS pixels, relative to the stage).
 *
 * The grid tries every number of columns and keeps the one whose tiles are largest, with a tile's shape free between
 * upright and 16:9, so that a phone and a wide screen are both filled.
 */

/** @typedef {{x: number, y: number, width: number, height: number}} Rect */

const WIDEST = 16 / 9;
const NARROWEST = 0.8;

/**
 * @param {number} count
 * @param {number} width
 * @param {number} height
 * @param {number} gap
 * @returns {{columns: number, rows: number, width: number, height: number}} of one tile
 */
export function bestGrid(count, width, height, gap) {
  let best = { columns: 1, rows: count, width: 0, height: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    let tileWidth = (width - gap * (columns - 1)) / columns;
    let tileHeight = (height - gap * (rows - 1)) / rows;
    if (tileWidth <= 0 || tileHeight <= 0) continue;
    tileWidth = Math.min(tileWidth, tileHeight * WIDEST);
    tileHeight = Math.min(tileHeight, tileWidth / NARROWEST);
    if (tileWidth * tileHeight > best.width * best.height)
      best = { columns, rows, width: tileWidth, height: tileHeight };
  }
  return best;
}

/** @param {number} count @param {Rect} area @param {number} gap @returns {Rect[]} */
export function gridRects(count, area, gap) {
  const { columns, rows, width, height } = bestGrid(count, area.width, area.height, gap);
  const top = area.y + (area.height - rows * height - (rows - 1) * gap) / 2;
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns);
    const inRow = Math.min(columns, count - row * columns); // the last row is centred
    const left = area.x + (area.width - inRow * width - (inRow - 1) * gap) / 2;
    return { x: left + (index % columns) * (width + gap), y: top + row * (height + gap), width, height };
  });
}

/** How many tiles a page of the grid may hold without getting too small. @param {number} width @param {number} height @returns {number} */
export function pageSize(width, height) {
  const least = width < 600 ? 108 : 168;
  const columns = Math.max(1, Math.floor(width / least));
  const rows = Math.max(1, Math.floor(height / (least / (width < 600 ? 1 : WIDEST))));
  return Math.max(2, Math.min(49, columns * rows));
}

/**
 * One large tile and a strip: beside it on a wide stage, below it on a tall one.
 * @param {number} count tiles of the strip
 * @param {{width: number, height: number}} stage
 * @param {number} gap
 * @param {number} [reserved] kept free at the bottom, for the pager
 * @returns {{focus: Rect, strip: Rect[], fits: number}} `fits` tells how many of the strip are in sight
 */
export function focusRects(count, { width, height }, gap, reserved = 0) {
  if (!count) return { focus: { x: 0, y: 0, width, height }, strip: [], fits: 0 };
  const isWide = width > height * 1.2;
  const along = isWide ? height - reserved : width;
  const across = isWide ? Math.min(240, Math.max(132, width * 0.18)) : Math.min(132, Math.max(84, height * 0.18));
  const step = isWide ? across / WIDEST : across * (width < 600 ? 1 : WIDEST);
  const fits = Math.max(1, Math.min(count, Math.floor((along + gap) / (step + gap))));
  const start = (along - fits * step - (fits - 1) * gap) / 2;
  const strip = Array.from({ length: fits }, (_, index) => {
    const offset = start + index * (step + gap);
    return isWide
      ? { x: width - across, y: offset, width: across, height: step }
      : { x: offset, y: height - across - reserved, width: step, height: across };
  });
  const focus = isWide
    ? { x: 0, y: 0, width: width - across - gap, height }
    : { x: 0, y: 0, width, height: height - across - gap - reserved };
  return { focus, strip, fits };
}

/** Two people: the other one fills the stage, oneself is a small tile in the corner. @param {{width: number, height: number}} stage @param {number} gap @returns {{other: Rect, self: Rect}} */
export function pairRects({ width, height }, gap) {
  const isTall = width < height;
  const selfWidth = Math.max(96, Math.min(240, width * (isTall ? 0.28 : 0.2)));
  const selfHeight = isTall ? selfWidth * 1.25 : selfWidth / WIDEST;
  const other = { x: 0, y: 0, width, height };
  return {
    other,
    self: { x: width - selfWidth - gap, y: height - selfHeight - gap, width: selfWidth, height: selfHeight },
  };
}
