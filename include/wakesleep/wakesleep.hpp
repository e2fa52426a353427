// The whole library in one include.
#pragma once

#include "wakesleep/arithmetic.hpp"
#include "wakesleep/data.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/evaluate.hpp"
#include "wakesleep/generate.hpp"
#include "wakesleep/machine.hpp"
#include "wakesleep/math.hpp"
#include "wakesleep/matrix.hpp"
#include "wakesleep/model_file.hpp"
#include "wakesleep/ops.hpp"
#include "wakesleep/philox.hpp"
#include "wakesleep/settings.hpp"
#include "wakesleep/trainer.hpp"
#include "wakesleep/wake_sleep.hpp"
