// The cell that this library is compiled for, and how many gates that has.
//
// RNNNORM_FULL: with all places and features. Without, it is a plain LSTM, which keeps more in registers.
#pragma once

#include <cstdint>

enum Cell { kLSTM, kGRU, kRNN };
enum Nonlinearity : int64_t { kTanh = 0, kRelu = 1, kIdentity = 2 };

#ifndef RNNNORM_CELL
#define RNNNORM_CELL kLSTM
#endif
#ifndef RNNNORM_FULL
#define RNNNORM_FULL 0
#endif

constexpr Cell kCell = RNNNORM_CELL;
constexpr int kGates = kCell == kLSTM ? 4 : kCell == kGRU ? 3 : 1;
