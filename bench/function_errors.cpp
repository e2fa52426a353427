// Prints the largest error of every elementary function over every float of its range: the table of
// docs/numerics.md.
#include <cstdio>

#include "reference/function_errors.hpp"

int main() {
  std::printf("| function | floats | largest error (ulp) | at |\n| --- | --- | --- | --- |\n");
  for (const auto& function : wakesleep::reference::elementary_functions()) {
    const auto largest = wakesleep::reference::largest_error(function, 0, 1);
    std::printf("| %s | %llu | %.3f | %.9g |\n", function.name.c_str(),
                static_cast<unsigned long long>(largest.values), largest.ulp,
                static_cast<double>(largest.at));
  }
}
