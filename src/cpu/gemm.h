// gemm.h: products of matrices on the CPU, at nearly the speed that the processor has.
//
// C = A B is rows x columns sums of `depth` products each. A processor can do 16 or 32 multiply-adds in a
// cycle, but load only a few numbers; so what counts is how often a number is used once it is loaded.
//
// The tile. A small rectangle of C, 8 rows by 3 vectors of columns, lives in registers. At each step p along
// the depth, 3 vectors of B's row p are loaded, and each of 8 numbers of A's column p is copied into all
// lanes of a vector: 11 loads for 24 vector multiply-adds. The 24 sums do not wait for each other, and that
// hides the 4 cycles that one multiply-add takes. This loop is the whole arithmetic; the rest feeds it.
//
//            B's panel (depth, 3 vectors)
//                 [ b0 ][ b1 ][ b2 ]      <- row p
//      A    a0    [sum ][sum ][sum ]
//   (rows)  a1    [sum ][sum ][sum ]      sum[r][v] += a_r * b_v
//           ..    [ ..             ]
//           a7    [sum ][sum ][sum ]
//           column p
//
// The panels. The tile wants row p of its part of B directly after row p - 1, but B lies elsewhere: as it
// stands, its rows are far apart, and in y = x W^T it lies on its side. So B is copied once into panels as
// wide as a tile, and all rows of A use the copy: depth * columns moves beside rows * depth * columns
// multiply-adds. A stays where it is: single numbers can be read from anywhere, in rows or, as in
// dW += dy^T x, in columns. The three products of a layer with weights W (b, a) and n rows x (n, a):
//
//     y = x W^T      A = x  (n, a)                  B = W^T (a, b), packed from its side
//     dx += dy W     A = dy (n, b)                  B = W   (b, a)
//     dW += dy^T x   A = dy^T (b, n), in columns    B = x   (n, a)
//
// The order of the sum. Each element of C is one chain of multiply-adds over p = 0, 1, ... within a block of
// 256, and the blocks' sums are added in order. Nothing of that depends on which tile the element is in, how
// many rows that tile has, or which thread does it. So a row's bits depend neither on its neighbours nor on
// the number of threads, and there is no padding of rows to earn that.
//
// What it is not: blocked for the caches. A block of panels is read from the second-level cache about once
// for every 8 rows, which is fast enough at 256 deep and a few thousand wide; larger matrices lose speed.
//
// Vectors are a type of the compiler (g++ and clang): 64, 32 or 16 bytes, as the machine has them.
//
//   [1] vectors   [2] the tile   [3] panels   [4] products
#pragma once
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#endif

#include "src/base/parallel.h"

namespace gemm {

// ----------------------------------------------------------------------------------------------- [1] vectors
// The sums should fill the registers, but for those that hold B's vectors and A's number: 32 registers of 64
// bytes have room for 8 x 3 sums, 16 of 32 bytes for 6 x 2. 14 x 2 is no faster, and its 14 rows of A, when
// they are 1,024 numbers apart, push each other out of the 8 ways of the first-level cache.
#if defined(__AVX512F__)
constexpr int vector_bytes = 64, tile_rows = 8, tile_vectors = 3;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32, tile_rows = 6, tile_vectors = 2;
#else
constexpr int vector_bytes = 16, tile_rows = 6, tile_vectors = 2;
#endif
constexpr int lanes = vector_bytes / sizeof(real);
constexpr long block_depth = 256;                        // one chain of multiply-adds

typedef real Vector __attribute__((vector_size(vector_bytes), may_alias));
typedef real LooseVector __attribute__((vector_size(vector_bytes), may_alias, aligned(sizeof(real))));

// a b + c with one rounding where the processor has that. It is asked for by name: left to the compiler, some
// tiles might get it and others not, and a row's bits would depend on its tile.
inline Vector multiply_add(Vector a, Vector b, Vector c) {
#if defined(__AVX512F__) && defined(__FMA__)
    if constexpr (sizeof(real) == sizeof(float))
        return (Vector)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
    else return (Vector)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__AVX2__) && defined(__FMA__)
    if constexpr (sizeof(real) == sizeof(float))
        return (Vector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
    else return (Vector)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
    return a * b + c;
#endif
}

// ---------------------------------------------------------------------------------------------- [2] the tile
// A matrix wherever it lies: element (i, j) is p[i * down + j * across].
struct Strided {
    const real *p;
    long down, across;
    Strided from(long i, long j) const { return {p + i * down + j * across, down, across}; }
};
inline Strided as_it_stands(const real *p, long width) { return {p, width, 1}; }
inline Strided transposed(const real *p, long width) { return {p, 1, width}; }

enum Write { overwrite, accumulate };

// C (R, columns) = or += A (R, depth) times the panel (depth, V vectors). C's rows are `stride` apart; the
// last vector may reach beyond its columns, and is then written number by number. C is asked for before the
// sums begin, so that it is there when they are done.
template <int R, int V>
void tile(real *C, long stride, Strided A, const real *panel, long depth, long columns, Write write) {
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) __builtin_prefetch(C + r * stride + v * lanes, 1);
    Vector sum[R][V] = {};
    for (long p = 0; p < depth; p++, A.p += A.across, panel += V * lanes) {
        Vector b[V];
        for (int v = 0; v < V; v++) b[v] = *(const Vector *)(panel + v * lanes);
        for (int r = 0; r < R; r++) {
            const Vector a = A.p[r * A.down] - Vector{};                 // in all lanes
            for (int v = 0; v < V; v++) sum[r][v] = multiply_add(a, b[v], sum[r][v]);
        }
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) {
            real *c = C + r * stride + v * lanes;
            const long n = std::min<long>(lanes, columns - v * lanes);
            const bool more = write == accumulate;
            if (n == lanes) *(LooseVector *)c = more ? *(LooseVector *)c + sum[r][v] : sum[r][v];
            else
                for (long j = 0; j < n; j++) c[j] = more ? c[j] + sum[r][v][j] : sum[r][v][j];
        }
}

// The tiles of all sizes: at the lower edge of C fewer rows are left, at the right edge fewer vectors.
using Tile = void (*)(real *, long, Strided, const real *, long, long, Write);
template <int... I>
constexpr std::array<Tile, sizeof...(I)> tiles_of_sizes(std::integer_sequence<int, I...>) {
    return {tile<I / tile_vectors + 1, I % tile_vectors + 1>...};
}
constexpr auto tiles = tiles_of_sizes(std::make_integer_sequence<int, tile_rows * tile_vectors>());

// ------------------------------------------------------------------------------------------------ [3] panels
inline long whole_vectors(long n) { return (n + lanes - 1) / lanes * lanes; }

// Panels are as wide as a tile, the last may be narrower. 4 vectors are not 3 + 1 but 2 + 2: a tile of one
// vector loads as much as it computes.
inline long panel_width(long columns) {
    const long vectors = std::max(1l, (columns + lanes - 1) / lanes);
    const long panels = (vectors + tile_vectors - 1) / tile_vectors;
    return (vectors + panels - 1) / panels * lanes;
}

// How many numbers B (depth, columns) takes in panels. The panel of column j begins at depth * j.
inline long packed_size(long depth, long columns) { return depth * whole_vectors(columns); }

// One of the steps that turn a square of vectors on its side: rows i and i + step exchange the quarters of
// their square that lie off the diagonal, seen at the scale of `step`.
template <int step, int... j> void exchange(Vector &upper, Vector &lower, std::integer_sequence<int, j...>) {
    const Vector a = upper, b = lower;
    upper = __builtin_shufflevector(a, b, (j & step ? j - step + lanes : j)...);
    lower = __builtin_shufflevector(a, b, (j & step ? j + lanes : j + step)...);
}
template <int step = 1> void transpose(Vector *rows) {
    if constexpr (step < lanes) {
        for (int i = 0; i < lanes; i++)
            if (!(i & step))
                exchange<step>(rows[i], rows[i + step], std::make_integer_sequence<int, lanes>());
        transpose<2 * step>(rows);
    }
}

// Row p of B into all panels; beyond its end there are zeros up to a whole vector.
inline void pack_row(real *to, const real *row, long depth, long columns, long p) {
    const long most = panel_width(columns);
    for (long j = 0; j < columns; j += most) {
        const long n = std::min(most, columns - j), width = whole_vectors(n);
        real *out = to + depth * j + p * width;
        long i = 0;
        for (; i + lanes <= n; i += lanes) *(Vector *)(out + i) = *(const LooseVector *)(row + j + i);
        for (; i < width; i++) out[i] = i < n ? row[j + i] : 0;
    }
}

// One vector of a panel (depth, width), from n columns of B that are rows in memory: squares are read by
// rows, turned on their side in registers, and written by rows.
inline void pack_on_its_side(real *to, long width, Strided B, long depth, long n) {
    const long whole = n == lanes ? depth / lanes * lanes : 0;
    Vector square[lanes];
    for (long p = 0; p < whole; p += lanes) {
        for (int j = 0; j < lanes; j++) square[j] = *(const LooseVector *)(B.p + p + j * B.across);
        transpose(square);
        for (int i = 0; i < lanes; i++) *(Vector *)(to + (p + i) * width) = square[i];
    }
    for (long p = whole; p < depth; p++)
        for (long j = 0; j < lanes; j++) to[p * width + j] = j < n ? B.p[p + j * B.across] : 0;
}

// B (depth, columns) into panels, a row or a vector of columns at a time, whichever lies in one piece. One of
// B's strides is 1; `to` is aligned to 64 bytes.
struct Packing {
    real *to;
    Strided B;
    long depth, columns;

    bool on_its_side() const { return B.down == 1; }
    long pieces() const { return on_its_side() ? whole_vectors(columns) / lanes : depth; }
    void one_piece(long i) const {
        if (!on_its_side()) return pack_row(to, B.from(i, 0).p, depth, columns, i);
        const long j = i * lanes, most = panel_width(columns), panel = j / most * most;
        const long width = whole_vectors(std::min(most, columns - panel));
        pack_on_its_side(to + depth * panel + j - panel, width, B.from(0, j), depth,
                         std::min<long>(lanes, columns - j));
    }
};
inline void pack(real *to, Strided B, long depth, long columns) {
    const Packing packing{to, B, depth, columns};
    for (long i = 0; i < packing.pieces(); i++) packing.one_piece(i);
}
inline void pack_in_parallel(real *to, Strided B, long depth, long columns) {
    const Packing packing{to, B, depth, columns};
    for_rows(packing.pieces(), packed_size(depth, columns) / 4 / std::max(1l, packing.pieces()),
             [&](long i) { packing.one_piece(i); });
}

// ---------------------------------------------------------------------------------------------- [4] products
// C (rows, columns) = or += A (rows, depth) B (depth, columns), B in panels. C's rows are `stride` apart.
struct Product {
    real *C;
    long stride;
    Strided A;
    const real *panels;
    long rows, depth, columns;
    Write write;

    void all_tiles() const;                              // by one thread
    void in_parallel() const;                            // the same bits
    void one_tile(long row, long column, long most) const;
    void prefetch_rows(long row, long column, long n) const;
};

// Each tile of a strip asks for its share of A's next rows: n of `columns` parts. The processor sees a few
// short rows side by side and would not guess what comes next.
inline void Product::prefetch_rows(long row, long column, long n) const {
    const long from = column * depth / columns, to = (column + n) * depth / columns;
    for (long r = row; r < std::min(row + tile_rows, rows); r++)
        for (long p = from; p < to; p += lanes) __builtin_prefetch(A.from(r, p).p);
}

// The tile whose corner is C(row, column), in panels of `most` columns.
inline void Product::one_tile(long row, long column, long most) const {
    const long R = std::min<long>(tile_rows, rows - row);
    const long n = std::min(most, columns - column), width = whole_vectors(n), V = width / lanes;
    const Tile tile = tiles[(R - 1) * tile_vectors + V - 1];
    if (A.across == 1 && row + R < rows) prefetch_rows(row + R, column, n);
    for (long p = 0; p < depth; p += block_depth)
        tile(C + row * stride + column, stride, A.from(row, p), panels + depth * column + p * width,
             std::min(block_depth, depth - p), n, p ? accumulate : write);
}

inline void Product::all_tiles() const {
    const long most = panel_width(columns);
    for (long row = 0; row < rows; row += tile_rows)
        for (long column = 0; column < columns; column += most) one_tile(row, column, most);
}

inline void Product::in_parallel() const {
    const long most = panel_width(columns), across = (columns + most - 1) / most;
    const long down = (rows + tile_rows - 1) / tile_rows;
    for_rows(down * across, tile_rows * most * depth / lanes,
             [&](long i) { one_tile(i / across * tile_rows, i % across * most, most); });
}

}  // namespace gemm
