// Prints the largest error of every elementary function over every float of its range, and that of
// standard_normal over many words: the tables of docs/numerics.md.
#include <cstdio>

#include "reference/function_errors.hpp"
#include "reference/normal_errors.hpp"

int main() {
  std::printf("| function | floats | largest error (ulp) | at |\n| --- | --- | --- | --- |\n");
  for (const auto& function : wakesleep::reference::elementary_functions()) {
    const auto largest = wakesleep::reference::largest_error(function, 0, 1);
    std::printf("| %s | %llu | %.3f | %.9g |\n", function.name.c_str(),
                static_cast<unsigned long long>(largest.values), largest.ulp,
                static_cast<double>(largest.at));
  }
  std::printf("\n| standard_normal, words | words | largest error | at word |\n| --- | --- | --- | --- |\n");
  for (const auto& range : wakesleep::reference::normal_ranges()) {
    const auto largest = wakesleep::reference::largest_normal_error(range, 1000000);
    std::printf("| %s | %llu | %.2g | %u |\n", range.name, static_cast<unsigned long long>(largest.values),
                largest.error, largest.tail);
  }
}
