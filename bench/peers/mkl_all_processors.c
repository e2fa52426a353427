/* Intel's MKL keeps its AVX-512 products for processors that call themselves Intel's; on others it takes AVX2. Loaded
   with LD_PRELOAD, this answers its question with yes, which doubles a float32 product where the processor has 512-bit
   units of another maker. bench/compare.py measures the PyTorch peer with and without it. */
int mkl_serv_intel_cpu_true(void) { return 1; }
